"""A run's folder, result/<RUNS_NAME>: config.json, log.jsonl, best.pt, last.pt and evaluation/."""

import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from sigmoid_vit.data import DataModule, load_data
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_atomically, write_json
from sigmoid_vit.model.checkpoints import load_checkpoint
from sigmoid_vit.runs.settings import Settings, settings_from_dict

PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy")
FREE_ON_RESUME = {"resume", "wandb", "projects_name", "result_dir", "cache_gib", "workers", "dataset_path"}


class Run:
    """The folder of one training run."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config, self.log_file = self.folder / "config.json", self.folder / "log.jsonl"
        self.best, self.last = self.folder / "best.pt", self.folder / "last.pt"
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
        elif run.folder.exists():
            raise UserError(
                f"{run.folder} already exists and is never overwritten; continue it with --resume "
                "(RESUME=true), or choose another RUNS_NAME"
            )
        return run

    def create(self, settings: Settings, **facts) -> None:
        """Write config.json: resolved settings, versions, commit, and facts such as the classes."""
        if not self.config.exists():
            config = {"settings": settings.as_dict(), "commit": _commit(), "versions": _versions(), **facts}
            write_json(self.config, config)

    def settings(self) -> Settings:
        """The settings the run was made with."""
        return settings_from_dict(self._read_config()["settings"])

    def facts(self) -> dict:
        """The content of config.json: settings, versions, commit, and what became of data and edits."""
        return self._read_config()

    @property
    def classes(self) -> list[str]:
        """The class names, in the order of the class logits."""
        return self._read_config()["classes"]

    def open_data(self, dataset_path: str | None = None) -> DataModule:
        """The data set the run was trained on, with its split; at `dataset_path` where it was moved.

        Raises:
            UserError: it is not there, or its classes are others.
        """
        data = open_data(self.settings(), dataset_path)
        self.check_classes(data)
        return data

    def check_classes(self, data: DataModule) -> None:
        """Refuse a data set whose classes are not those the run was trained on."""
        if list(data.classes) != self.classes:
            raise UserError(
                f"the data set's classes are not those {self.folder} was trained on; give its --dataset_path"
            )

    def evaluation(self, split: str, default: str, which: str = "best") -> Path:
        """Where figures go: evaluation/, below it the names of another split and of the last checkpoint."""
        below = [name for name, usual in ((split, default), (which, "best")) if name != usual]
        return self.folder.joinpath("evaluation", *below)

    def log(self, line: dict) -> None:
        """Append one epoch's figures to log.jsonl."""
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def history(self) -> list[dict]:
        """The epochs logged so far."""
        if not self.log_file.exists():
            return []
        return [json.loads(line) for line in self.log_file.read_text(encoding="utf-8").splitlines()]

    def checkpoint_to_resume(self, cut_log: bool = True) -> dict | None:
        """last.pt, or None if no epoch was finished; log.jsonl is cut back to the epochs it holds."""
        checkpoint = load_checkpoint(self.last) if self.last.exists() else None
        if cut_log and self.log_file.exists():
            lines = self.log_file.read_bytes().splitlines(keepends=True)
            lines = lines[: checkpoint["epoch"] if checkpoint else 0]
            write_atomically(self.log_file, lambda file: file.writelines(lines))
        return checkpoint

    def _read_config(self) -> dict:
        if not self.config.is_file():
            lacks = "it has no config.json" if self.folder.is_dir() else f"{Path.cwd()} has no such folder"
            raise UserError(f"{self.folder} is not a run: {lacks}; src/train.py makes one")
        try:
            return json.loads(self.config.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise UserError(f"{self.config} is damaged ({error}); restore it from a copy") from error

    def _check_same_settings(self, settings: Settings) -> None:
        before, now = self.settings().as_dict(), settings.as_dict()
        changed = [k for k in now if k not in FREE_ON_RESUME and json.loads(json.dumps(now[k])) != before[k]]
        if changed:
            what = ", ".join(f"{k.upper()} was {before[k]!r}, is now {now[k]!r}" for k in changed)
            raise UserError(f"{self.folder} cannot be resumed with other settings: {what}")


def run_folder(settings: Settings) -> Path:
    """Where the settings train into."""
    return Path(settings.result_dir) / settings.runs_name


def open_data(settings: Settings, dataset_path: str | None = None) -> DataModule:
    """The data set the settings describe, with their split; at `dataset_path` where it was moved."""
    s = settings
    path, fraction = dataset_path or s.dataset_path, s.val_fraction
    cut = dict(val_fraction=fraction, seed=s.cut_seed, group_by=s.group_by)
    return load_data(s.dataset, path, skip_bad_images=s.skip_bad_images, **cut, **s.data_kwargs)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def _commit() -> str | None:
    """The commit of the code, with "+changes" when the working tree differs; None outside git."""
    here = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(
            ("git", *args), cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", "..") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
