"""A run's folder, result/<RUNS_NAME>: config.json, log.jsonl, best.pt, last.pt and evaluation/."""

import getpass
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from sigmoid_vit.data import DataModule, ValueRange, load_data
from sigmoid_vit.data.images import listed
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import claim, sealed, sha256, unsealed, write_atomically, write_json
from sigmoid_vit.model.checkpoints import load_checkpoint
from sigmoid_vit.runs.kept_images import Changes, KeptImages
from sigmoid_vit.runs.settings import Settings, settings_from_dict
from sigmoid_vit.runs.versions import code_and_versions, differences

FREE_ON_RESUME = {"resume", "wandb", "projects_name", "result_dir", "cache_gib", "workers", "dataset_path"}
FREE_ON_RESUME |= {"runs_name", "checkpoint_minutes", "hung_minutes"}


class Run:
    """The folder of one training run."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config, self.log_file = self.folder / "config.json", self.folder / "log.jsonl"
        self.images = self.folder / "images.csv"  # which are in train and val
        self.best, self.last = self.folder / "best.pt", self.folder / "last.pt"
        self.previous = self.folder / "previous.pt"  # what last.pt was before
        self.lock = self.folder / "training.lock"  # held while training
        self.edits = self.folder / "edits.npz"  # Step 2: the edits it was trained with
        self.attention_share = self.folder / "attention_share.json"  # how much lies there, before and after
        self.unused_edits = self.folder / "unused_edits.npz"  # CONTROL=no_edits: those that chose its images

    @classmethod
    def open(cls, settings: Settings) -> "Run":
        """The folder these settings train into; nothing is written before `create`.

        Raises:
            UserError: the folder exists and is not to be resumed, or was made with other settings.
        """
        run = cls(run_folder(settings))
        if settings.resume and run.config.exists():
            run._check_same_settings(settings)
        elif settings.resume:
            raise UserError(
                f"{run.folder} holds no run to resume; leave --resume (RESUME=true) out to start it"
            )
        elif run._is_taken():
            raise UserError(
                f"{run.folder} already exists and is never overwritten; continue it with --resume "
                "(RESUME=true), or choose another RUNS_NAME"
            )
        return run

    def create(self, settings: Settings, kept: KeptImages, **facts) -> None:
        """Write images.csv, then config.json: settings, versions, commit, and facts such as the classes."""
        if not self.config.exists():
            kept.write(self.images)
            config = {"settings": settings.as_dict(), **code_and_versions(), **facts}
            write_json(self.config, sealed({**config, "images_sha256": sha256(self.images)}))

    def settings(self) -> Settings:
        """The settings the run was made with."""
        return settings_from_dict(self._read_config()["settings"])

    def value_range(self) -> ValueRange:
        """Which values of deep images are black and white to its network."""
        return ValueRange(known=self.facts().get("value_range"))

    def first_step(self) -> "Run | None":
        """The run that Step 2 started from, beside it or where it was; None if it is not there."""
        first = self.settings().first_step
        places = [self.folder.parent / Path(first).name, Path(first)] if first else []
        return next((Run(place) for place in places if (place / "best.pt").is_file()), None)

    def facts(self) -> dict:
        """The content of config.json: settings, versions, commit, and what became of data and edits."""
        return self._read_config()

    def made_otherwise(self) -> str:
        """Which versions, and whether the code, differ from those it was made with; "" for none."""
        changed = differences(self.facts())
        return f"{self.folder} was made with {'; '.join(changed)}" if changed else ""

    @property
    def classes(self) -> list[str]:
        """The class names, in the order of the class logits."""
        return self._read_config()["classes"]

    def open_data(self, dataset_path: str | None = None, settings: Settings | None = None) -> DataModule:
        """The data set the run was trained on, with the run's own images in train and val.

        Args:
            dataset_path: where it is, if it was moved.
            settings: those of a run that goes on from this one, in place of the run's own.

        Raises:
            UserError: it is not there, its classes are others, or none of the images of a part is left.
        """
        return self.open_data_and_changes(dataset_path, settings)[0]

    def class_of(self, split: str) -> dict[str, str]:
        """The name of the true class by image id, of a part of its data set."""
        part = self.open_data().part(split)
        return {image_id: part.classes[label] for image_id, label in zip(part.ids, part.labels, strict=True)}

    def open_data_and_changes(
        self, dataset_path: str | None = None, settings: Settings | None = None
    ) -> tuple[DataModule, Changes]:
        """The same, and what became of the run's images; changes are told on stderr. See `Changes.since`."""
        s = settings or self.settings()
        kept = self._kept_images(dataset_path or s.dataset_path)
        data = open_data(s, dataset_path, kept.parts if kept else None, self.value_range())
        if data.classes != self.classes and sorted(data.classes) == sorted(self.classes):
            data.number_as(self.classes)
        self.check_classes(data)
        if kept is None:
            return data, Changes({}, [], [], [], 0)
        changes = Changes.since(kept, data)
        for name, part in (("train", data.train), ("val", data.val)):
            if changes.gone.get(name) and not part:
                raise UserError(
                    f"none of the {len(changes.gone[name])} images that {self.folder} has in {name} is left "
                    f"in {data.root}: give its DATASET_PATH (--dataset_path); to start from its weights on "
                    f"other images, train with PRETRAINED={self.best}"
                )
        if changes.text():
            print(f"of the images of {self.folder}, {changes.text()}", file=sys.stderr)
        return data, changes

    def _kept_images(self, dataset_path: str) -> KeptImages | None:
        """Which images are in the run's parts; None of a run that did not keep them yet and cut nothing."""
        s = self.settings()
        if self._keeps_images:
            digest = self.facts()["images_sha256"]
            if not self.images.is_file() or sha256(self.images) != digest:
                state = "is damaged" if self.images.is_file() else "is missing"
                raise UserError(f"{self.images}, which says what is in train and val, {state}; restore it")
            return KeptImages.read(self.images)
        whole = open_data(replace(s, val_fraction=0), dataset_path)
        if s.val_fraction == 0 or whole.val:
            return None
        self.check_classes(whole)
        return KeptImages.as_cut_before(whole, s.val_fraction, s.cut_seed, s.group_by)

    def check_classes(self, data: DataModule) -> None:
        """Refuse a data set whose classes are not those the run was trained on."""
        before, now = self.classes, list(data.classes)
        if now != before:
            lacks = listed([name for name in before if name not in now], 5) or "none"
            added = listed([name for name in now if name not in before], 5) or "none"
            raise UserError(
                f"the data set's classes are not those {self.folder} was trained on (missing now: {lacks}; "
                f"not known to it: {added}); give its --dataset_path, or train a new network"
            )

    def evaluation(self, split: str, default: str, which: str = "best") -> Path:
        """Where figures go: evaluation/, below it the names of another split and of the last checkpoint."""
        below = [name for name, usual in ((split, default), (which, "best")) if name != usual]
        return self.folder.joinpath("evaluation", *below)

    def log(self, line: dict) -> None:
        """Append one epoch's figures to log.jsonl.

        Raises:
            UserError: the disk does not take it.
        """
        try:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(sealed(line)) + "\n")
        except OSError as error:
            raise UserError(
                f"cannot write {self.log_file} ({error}); is the disk full or read-only?"
            ) from error

    def history(self) -> list[dict]:
        """The epochs logged so far.

        Raises:
            UserError: a line is damaged, or is missing although last.pt has its epoch.
        """
        return self._epochs(self._lines())

    def _lines(self) -> list[bytes]:
        """Those of log.jsonl, with their ends."""
        return self.log_file.read_bytes().splitlines(keepends=True) if self.log_file.exists() else []

    def _epochs(self, lines: list[bytes]) -> list[dict]:
        """What the lines say, which are of the epochs 1, 2, ... to that of last.pt or further."""
        epochs, always, done = [], bool(lines) and self._keeps_images, 0
        for number, line in enumerate(lines, 1):
            try:
                epochs.append(unsealed(json.loads(line), always))
            except ValueError as error:
                raise UserError(
                    f"line {number} of {self.log_file} is damaged ({error}); restore the file from a copy"
                ) from error
        if always and [line["epoch"] for line in epochs] != list(range(1, len(epochs) + 1)):
            raise UserError(f"{self.log_file} lacks lines or holds some twice; restore the file from a copy")
        with suppress(UserError):  # a damaged checkpoint is said where it is used
            done = load_checkpoint(self.last)["epoch"]
        if len(epochs) < done:
            raise UserError(
                f"{self.log_file} has lines of {len(epochs)} epochs, but {self.last} is of {done}; restore "
                "the file from a copy"
            )
        return epochs

    @property
    def _keeps_images(self) -> bool:
        """Whether it was made by a version that keeps images.csv, and a checksum in all that it writes."""
        return "images_sha256" in self.facts()

    def _is_taken(self) -> bool:
        """Whether the folder holds anything besides what a start leaves that was cut off."""
        if not self.folder.is_dir():
            return self.folder.exists()
        started = {self.images.name, self.lock.name}
        return any(p.name not in started and p.suffix != ".tmp" for p in self.folder.iterdir())

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """The right to train into the folder; of several processes of one training, the first one holds it.

        Raises:
            UserError: another training has it. One that was killed does not.
        """
        if os.environ.get("RANK", "0") != "0":
            yield
            return
        since = f"{_user()} since {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"
        with claim(self.lock, f"{self.folder} is being trained", since, "wait for its end or end it"):
            for leftover in self.folder.glob(".*.tmp"):  # of a training that was killed while it wrote
                leftover.unlink(missing_ok=True)
            try:
                yield
            finally:
                self.lock.unlink(missing_ok=True)
                with suppress(OSError):  # only an empty folder goes
                    self.folder.rmdir()

    def checkpoint_to_resume(self, cut_log: bool = True) -> dict | None:
        """The last checkpoint, or None if none was written; log.jsonl is cut back to the epochs it holds.

        The one before it takes its place where it is damaged or missing.

        Raises:
            UserError: neither can be used, but the run had got further.
        """
        checkpoint = self._last_or_previous()
        if cut_log:
            lines = self._lines()[: checkpoint["epoch"] if checkpoint else 0]
            self._epochs(lines)  # a damaged line is known before training
            write_atomically(self.log_file, lambda file: file.writelines(lines))
        return checkpoint

    def _last_or_previous(self) -> dict | None:
        try:
            if self.last.exists():
                return load_checkpoint(self.last)
            if not self.previous.exists() and len(self.history()) < 2:  # ended before its first checkpoint
                return None
            why = f"{self.last} is missing"
        except UserError as error:
            why = str(error)
        if not self.previous.exists():
            raise UserError(
                f"{why}; there is no earlier checkpoint to go on from: restore it, or start a new run "
                f"(PRETRAINED={self.best} starts from its best weights)"
            )
        checkpoint = load_checkpoint(self.previous)
        print(f"warning: {why}; going on from {self.previous}", file=sys.stderr)
        return checkpoint

    def _read_config(self) -> dict:
        if not self.config.is_file():
            lacks = "it has no config.json" if self.folder.is_dir() else f"{Path.cwd()} has no such folder"
            raise UserError(f"{self.folder} is not a run: {lacks}; src/train.py makes one")
        try:
            content = json.loads(self.config.read_bytes())
            return unsealed(content, always=isinstance(content, dict) and "images_sha256" in content)
        except ValueError as error:
            raise UserError(f"{self.config} is damaged ({error}); restore it from a copy") from error

    def _check_same_settings(self, settings: Settings) -> None:
        before, now = self.settings().as_dict(), settings.as_dict()
        changed = [k for k in now if k not in FREE_ON_RESUME and json.loads(json.dumps(now[k])) != before[k]]
        if changed:
            what = ", ".join(f"{k.upper()} was {before[k]!r}, is now {now[k]!r}" for k in changed)
            raise UserError(f"{self.folder} cannot be resumed with other settings: {what}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in containers
        return f"user {os.getuid()}"


def run_folder(settings: Settings) -> Path:
    """Where the settings train into."""
    return Path(settings.result_dir) / settings.runs_name


def open_data(
    settings: Settings,
    dataset_path: str | None = None,
    kept: dict[str, list[str]] | None = None,
    value_range: ValueRange | None = None,
) -> DataModule:
    """The data set the settings describe, with their cut of val, or with images and value range of a run.

    It is at `dataset_path` where it was moved.
    """
    s = settings
    path, fraction = dataset_path or s.dataset_path, s.val_fraction
    cut = dict(val_fraction=fraction, seed=s.cut_seed, group_by=s.group_by, kept=kept)
    shown = dict(skip_bad_images=s.skip_bad_images, value_range=value_range)
    return load_data(s.dataset, path, **cut, **shown, **s.data_kwargs)
