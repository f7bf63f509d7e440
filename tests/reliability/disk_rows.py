"""A disk that is full: what was there stays, and the message says so."""

import ctypes
import os
import re
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from helpers.edits import an_edit

from sigmoid_vit.edits import exchange
from sigmoid_vit.edits.exchange import export_edits, read_export
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.errors import UserError
from sigmoid_vit.evaluation.evaluate import evaluate_run
from sigmoid_vit.model import checkpoints
from sigmoid_vit.model.checkpoints import load_checkpoint
from sigmoid_vit.runs.folder import Run

from . import material
from .harness import Child, Row, Unavailable, outcome

MIB = 2**20
BLOCK = 4096
NEW_USER, NEW_MOUNTS, PRIVATE = 0x10000000, 0x00020000, (1 << 18) | 0x4000


class FullDisk(Row):
    promise = (
        "the disk is full while a checkpoint, a line of log.jsonl, an edit, an export or an evaluation is "
        "written: what was there is damaged, or the message does not say disk"
    )
    control = "files written in place, errors as they come"
    tries = (10, 100)
    controls = (5, 10)
    kinds = ("checkpoint", "log", "store", "export", "evaluation")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if sys.platform != "linux":
            raise Unavailable("a small disk is made by Linux's tmpfs")
        self.images = material.images(folder / "images", per_class=6)
        with Child(folder / "log", _small_disk, folder) as child:
            if child.ended() != 0:
                raise Unavailable("this machine lets nobody mount a tmpfs")

    def attempt(self, number, folder, random, protected):
        kind, log = self.kinds[number % len(self.kinds)], folder / "log"
        with Child(log, self._in_small_disk, kind, folder, random, protected) as child:
            code = child.ended()
        wrong = re.findall(r"^WRONG (.*)$", child.said, re.MULTILINE)
        if code != 0:
            return f"{kind}: {child.said.strip().splitlines()[-1]}"
        return f"{kind}: {wrong[0]}" if wrong else ""

    def _in_small_disk(self, kind, folder, random, protected) -> None:
        disk = folder / "disk"
        disk.mkdir()
        _small_disk(disk)
        begin, read, act = getattr(self, f"_{kind}")(disk)
        begin()
        before = read()
        free = os.statvfs(disk).f_bavail
        with open(disk / "filler", "wb") as file:  # leaves some blocks, too few for the work
            file.write(bytes(BLOCK * int(free - random.integers(0, 4))))
        with nullcontext() if protected else _in_place():
            result, _, said = outcome(act)
        if result != "told" or not re.search(r"\bdisk\b|No space|full", said):
            print(f"WRONG {result}, it says {said.strip().splitlines()[-1:]}")
        (disk / "filler").unlink()
        try:
            if read() != before:
                print("WRONG what was there is changed")
        except UserError as error:
            print(f"WRONG what was there is damaged: {error}")

    def _checkpoint(self, disk):
        run = Run(disk / "run")

        def save(value):
            state = {"model": {"w": torch.full((300_000,), float(value))}, "epoch": value}
            checkpoints.save_checkpoint(run.last, state, previous=run.previous)

        return lambda: save(1), lambda: load_checkpoint(run.last)["epoch"], lambda: save(2)

    def _log(self, disk):
        run = material.a_run(disk, self.images)

        def log(epoch):
            run.log({"epoch": epoch, "loss": 1.0, "note": "x" * 20_000})

        def read():  # what a resumed run goes on with
            kept = run.log_file.read_bytes().splitlines(keepends=True)[:1]
            run.log_file.write_bytes(b"".join(kept))
            return run.history()

        return lambda: log(1), read, lambda: log(2)

    def _store(self, disk):
        path = disk / "edits.sqlite"

        def save(value):
            with EditStore(path) as edits:
                edits.save(an_edit(fill=value, note="x" * 40_000))

        def read():
            with EditStore(path, readonly=True) as edits:
                return [(edit.revision, float(edit.value[0, 0])) for edit in edits.history()]

        return lambda: save(0.25), read, lambda: save(0.5)

    def _export(self, disk):
        path = disk / "edits.sqlite"

        def begin():
            with EditStore(path) as edits:
                edits.save_many([an_edit(f"train/{i}", fill=i / 40) for i in range(40)])
                export_edits(edits, disk / "first")

        def again():
            with EditStore(path, readonly=True) as edits:
                export_edits(edits, disk / "second")

        def read():
            second = disk / "second"
            if (second / exchange.LAST).exists():
                raise UserError("a cut export passes for a whole one")
            return [(edit.image_id, edit.value.tobytes()) for edit in read_export(disk / "first")]

        return begin, read, again

    def _evaluation(self, disk):
        run = material.a_run(disk, self.images)

        def work():
            evaluate_run(run.folder, "val", faithfulness=0, errors=0, decision_maps=0)

        def begin():
            work()
            for picture in run.evaluation("val", "val").glob("*.p*"):  # their room would do for the new ones
                picture.unlink()

        def read():
            figures = run.evaluation("val", "val") / "metrics.json"
            return figures.read_text(), (figures.parent / "predictions.csv").read_text()

        return begin, read, work


@contextmanager
def _in_place():
    """Files are written where they lie."""

    def write_in_place(path, write):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            write(file)

    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("sigmoid_vit") and hasattr(module, "write_atomically"):
                stack.enter_context(patch.object(module, "write_atomically", write_in_place))
        yield


def _small_disk(folder: Path) -> None:
    """Put a disk of 8 MiB there, for this process alone."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name, *args):
        if getattr(libc, name)(*args):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    call("unshare", NEW_MOUNTS | (NEW_USER if os.getuid() else 0))
    call("mount", None, b"/", None, PRIVATE, None)
    call("mount", b"none", os.fsencode(folder), b"tmpfs", 0, b"size=8m")
    assert np.isclose(os.statvfs(folder).f_blocks * os.statvfs(folder).f_bsize, 8 * MIB)
