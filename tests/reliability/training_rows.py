"""Training that is stopped, killed, started twice, or loses one of its processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from unittest.mock import patch

import torch
from helpers.runs import curve

from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_json
from sigmoid_vit.model import checkpoints
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.training.interruption import Interruption, Stopped
from sigmoid_vit.training.loop import Loop
from sigmoid_vit.training.trainer import Trainer

from . import ROOT, material
from .harness import FORK, Child, Row, script, wait_for

EPOCHS, UPDATES = 3, 6  # of `material`: 96 images in batches of 16
LAST = EPOCHS * UPDATES


def fit(folder: Path, options: list[str], *more: str) -> Run:
    trainer = Trainer(material.settings(folder, *options, *more))
    trainer.prepare()
    trainer.fit()
    return trainer.run


def difference(one: Run, other: Run) -> str:
    """What differs between two runs, bit for bit; "" for nothing."""
    if curve(one) != curve(other):
        return "log.jsonl differs"
    for name in ("best.pt", "last.pt"):
        a, b = (torch.load(run.folder / name, weights_only=True) for run in (one, other))
        if a["epoch"] != b["epoch"] or any(not torch.equal(a["model"][k], b["model"][k]) for k in b["model"]):
            return f"{name} differs"
    return ""


@contextmanager
def counted(action=lambda number: None):
    """`action(number)` after every update, counted from 1."""
    update, done = Loop._update, 0

    def then(self, *args):
        nonlocal done
        update(self, *args)
        done += 1
        action(done)

    with patch.object(Loop, "_update", then):
        yield


def seeded_per_epoch():
    """Randomness as it usually is: one stream from the start of an epoch on."""
    seed = Loop._seed
    return patch.object(
        Loop, "_seed", lambda self, epoch, step: seed(self, epoch, step) if step == 0 else None
    )


class Kinds:
    """Plain, edited and propagated trainings, and the uninterrupted run of each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.dataset, self.whole = folder, material.images(folder / "images"), {}
        part = material.a_run(folder, self.dataset).open_data().train
        self.stores = {
            "edited": material.store(folder / "all.sqlite", part, len(part)),
            "propagated": material.store(folder / "few.sqlite", part, 40),
        }

    def options(self, kind: str, workers: int, folder: Path) -> list[str]:
        more = ["--cache_gib", "0", "--workers", str(workers)] if workers else []
        if kind in self.stores:
            store = shutil.copy(self.stores[kind], folder / "edits.sqlite")
            more += ["--edits", str(store), "--inject", "true"]
        if kind == "propagated":
            more += ["--propagate", "true"]
        return material.options(self.dataset, *more)

    def uninterrupted(self, kind: str, workers: int, protected: bool) -> Run:
        key = (kind, workers, protected)
        if key not in self.whole:
            folder = self.folder / f"{kind}{workers}{protected}"
            folder.mkdir()
            self.whole[key] = fit(folder, self.options(kind, workers, folder))
        return self.whole[key]


class ResumeAtEveryUpdate(Row):
    promise = (
        "stopped after an update and resumed: another result than the uninterrupted run, bit for bit (3 "
        "epochs of 6 updates; 0 and 2 decoding processes; plain, edited, propagated)"
    )
    control = "random numbers drawn in one stream per epoch, in place of a seed per update"
    points = tuple(
        (kind, workers, update)
        for update in range(1, LAST)
        for kind in ("plain", "edited", "propagated")
        for workers in (0, 2)
    )
    tries = (12, len(points))
    controls = (2, 12)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kinds = Kinds(folder)

    def without(self):
        return seeded_per_epoch()

    def attempt(self, number, folder, random, protected):
        kind, workers, update = self.points[number * len(self.points) // self.total]
        if not protected:
            kind, workers, update = "plain", 0, 2 + number % 3
        whole, options = (
            self.kinds.uninterrupted(kind, workers, protected),
            self.kinds.options(kind, workers, folder),
        )

        def stop(done):
            if done == update:
                signal.raise_signal(signal.SIGTERM)

        try:
            with counted(stop):
                fit(folder, options)
            return "it did not stop"
        except Stopped:
            return difference(fit(folder, options, "--resume"), whole)


class KilledAnywhere(Row):
    promise = (
        "src/train.py ended at a random moment by SIGKILL or SIGTERM and resumed: another result than the "
        "uninterrupted run, or more than one update lost"
    )
    control = "no handler for SIGTERM; for SIGKILL, random numbers drawn in one stream per epoch"
    tries = (6, 200)
    controls = (4, 20)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kinds = Kinds(folder)
        start = time.monotonic()
        with Child(
            folder / "log", fit, folder, self.kinds.options("plain", 0, folder), "--runs_name", "timed"
        ) as child:
            child.ended()
        self.seconds = time.monotonic() - start
        self.updates = FORK.Value("i", 0)

    def attempt(self, number, folder, random, protected):
        killed = number % 2 == 0
        options = [*self.kinds.options("plain", 0, folder), "--result_dir", str(folder), "--runs_name", "run"]
        options += ["--checkpoint_minutes", "0" if killed else "10"]
        out = ExitStack()
        if not protected:
            ignored = patch.object(Interruption, "__enter__", lambda self: self)
            unrestored = patch.object(Interruption, "__exit__", lambda *_: None)
            for piece in [seeded_per_epoch()] if killed else [ignored, unrestored]:
                out.enter_context(piece)
        with out:
            whole = self.kinds.uninterrupted("plain", 0, protected or not killed)
            run = Run(folder / "run")
            if wrong := self._end_it(folder, options, killed, random, protected):
                return wrong
            resume = ["--resume"] if run.config.exists() else []
            with Child(folder / "again", script, "train", *options, *resume) as child:
                if child.ended() != 0:
                    return f"cannot be resumed: {child.said[-300:]}"
            return difference(run, whole)

    def _end_it(self, folder, options, killed, random, protected) -> str:
        """Start the training and end it; what is wrong with how it ended."""
        run, self.updates.value = Run(folder / "run"), 0
        with Child(folder / "log", self._counted_training, *options) as child:
            if protected:
                time.sleep(random.uniform(0.1, 1.2) * self.seconds)
            else:  # in the middle of an epoch, where it matters
                wait_for(lambda: self.updates.value >= 3)
            child.send(signal.SIGKILL if killed else signal.SIGTERM)
            code = child.ended()
        if code in (0, -signal.SIGKILL) or (code == -signal.SIGTERM and not self.updates.value):
            return ""  # as asked; SIGTERM also before the program began
        if code != 128 + signal.SIGTERM or "Traceback" in child.said:
            return f"ended with {code}: {child.said[-300:]}"
        done = 0
        if run.last.exists():
            last = torch.load(run.last, weights_only=True)
            done = last["epoch"] * UPDATES + last.get("begun", [0])[0]
        lost = self.updates.value - done
        return f"{lost} updates were lost" if lost > 1 else ""

    def _counted_training(self, *options):
        def note(number):
            self.updates.value = number

        with counted(note):
            script("train", *options)


class KilledWhileSaving(Row):
    promise = "killed while a checkpoint is written: no checkpoint that can be resumed"
    control = "torch.save straight into the file"
    tries = (20, 500)
    controls = (10, 50)

    def attempt(self, number, folder, random, protected):
        run, written = Run(folder), FORK.Value("i", 0)
        write_json(run.config, {})

        def keep_saving():
            save = (
                checkpoints.save_checkpoint if protected else lambda path, state, **_: torch.save(state, path)
            )
            for epoch in range(1, 1000):
                state = {"model": {"w": torch.full((1_000_000,), float(epoch))}, "epoch": epoch}
                run.log({"epoch": epoch})  # as training does, before the checkpoint
                save(run.last, state, previous=run.previous)
                written.value = epoch

        with Child(folder / "log", keep_saving) as child:
            wait_for(lambda: written.value >= 1)
            time.sleep(random.uniform(0, 0.1))
            child.send(signal.SIGKILL)
            child.ended()
        try:
            checkpoint = run.checkpoint_to_resume()
        except UserError as error:
            return str(error)
        found, weights = checkpoint["epoch"], checkpoint["model"]["w"]
        if not (weights == found).all():
            return "the checkpoint is of two epochs"
        return f"epoch {written.value} was there, epoch {found} is left" if found < written.value else ""


class TwoTrainers(Row):
    promise = "two trainings started into one folder at the same moment: both go on, or neither"
    control = "no lock on the folder"
    tries = (5, 100)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.dataset = material.images(folder / "images")

    def without(self):
        return patch.object(Run, "claimed", lambda self: nullcontext())

    def attempt(self, number, folder, random, protected):
        options = material.options(self.dataset, "--result_dir", folder, "--runs_name", "run")
        both = FORK.Barrier(2)

        def together(*args):
            both.wait()
            script("train", *args)

        with (
            Child(folder / "one", together, *options) as one,
            Child(folder / "two", together, *options) as two,
        ):
            codes = [one.ended(), two.ended()]
        said = one.said + two.said
        if sorted(codes) != [0, 1]:
            return f"they ended with {codes}"
        if not re.search(r"error: .*run (is being trained by|already exists)", said) or "Traceback" in said:
            return f"the second says: {said[-300:]}"
        epochs = [line["epoch"] for line in Run(folder / "run").history()]
        return "" if epochs == [1, 2, 3] else f"log.jsonl holds the epochs {epochs}"


class OneOfTwoProcesses(Row):
    promise = (
        "of two processes one is killed, or hangs, or their launcher is killed: the others go on for 30 "
        "seconds (hung: for HUNG_MINUTES and 60 seconds), or end without a sentence"
    )
    control = "no time-out, no sentence in place of torch's tracebacks, no end with the launcher"
    kinds = ("killed", "hung", "launcher killed")
    tries = (3, 30)
    controls = (1, 3)
    hung_minutes = 0.1

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.dataset = material.images(folder / "images")

    def attempt(self, number, folder, random, protected):
        kind = self.kinds[number % 3]
        limit = 60 * self.hung_minutes + 60 if kind == "hung" else 30
        run, log = Run(folder / "run"), folder / "log"
        with log.open("wb") as file:
            launcher = subprocess.Popen(self._command(folder, protected), stdout=file, stderr=file, cwd=ROOT)
        try:
            if not wait_for(lambda: len(_epochs(run)) > 0 or launcher.poll() is not None):
                return f"it did not start: {log.read_text()[-300:]}"
            trainers = sorted(set(_processes(folder)) - {launcher.pid})
            victim = launcher.pid if kind == "launcher killed" else trainers[-1]
            os.kill(victim, signal.SIGSTOP if kind == "hung" else signal.SIGKILL)
            left = lambda: [p for p in _processes(folder) if not (kind == "hung" and p == victim)]  # noqa: E731
            launcher_ended = lambda: launcher.poll() is not None and not left()  # noqa: E731
            if not wait_for(launcher_ended, limit):
                return f"{kind}: {len(left())} processes go on after {limit:.0f} s"
            said = log.read_text(errors="replace")
            sentence = (
                "stopped by SIGTERM" if kind == "launcher killed" else "another process of this training"
            )
            if "Traceback" in said or f"error: {sentence}" not in said:
                return f"{kind}: it says {said[-300:]}"
            return "" if run.last.exists() else "no checkpoint is left"
        finally:
            for process in (*_processes(folder), launcher.pid):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            launcher.wait()

    def _command(self, folder, protected):
        """The training in two processes, as IS_DATAPARALLEL=true starts it; or without the protection."""
        launch = ["-m", "accelerate.commands.launch"]
        if protected:
            launch = [str(ROOT / "scripts/launch_processes.py")]
        command = [sys.executable, *launch, "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
        command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
        command += [str(ROOT / "src/train.py")] if protected else ["-m", f"{__package__}.unprotected"]
        minutes = self.hung_minutes if protected else 30
        more = ("--result_dir", folder, "--runs_name", "run", "--epochs", 9999, "--hung_minutes", minutes)
        return command + material.options(self.dataset, *more)


def _epochs(run: Run) -> list[dict]:
    with suppress(UserError, OSError):
        return run.history()
    return []


def _processes(folder: Path) -> list[int]:
    """Those whose command line names the folder, as far as they live."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(folder).encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found
