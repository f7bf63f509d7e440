"""Checkpoints: saved in one step, checked record by record, loaded without running pickled code."""

import contextlib
import os
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.models import VisionTransformer, clean_state_dict
from torch import Tensor, nn

from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_atomically

COMMAND = "python3 src/load_pretrained.py --model_name"
DOS_FOLDER = 0x10  # the bit of a zip entry's attributes that calls it a folder
State = dict[str, Tensor]


@dataclass(frozen=True)
class LoadReport:
    """What `load_into` did."""

    matched: int  # keys loaded
    head_new: bool  # the classifier head stayed as the model initialised it
    resampled: tuple[str, ...]  # embeddings brought to the model's grid

    def __str__(self) -> str:
        parts = [f"{self.matched} keys loaded", *(f"{key} resampled" for key in self.resampled)]
        return ", ".join(parts + ["classifier head new"] * self.head_new)


def default_weights_path(model_name: str, save_dir: str | Path = "models") -> Path:
    """Where `download_pretrained` and `import_weights` put the weights of `model_name`."""
    return Path(save_dir) / f"{model_name}.pt"


def save_checkpoint(path: str | Path, obj: dict, previous: Path | None = None) -> None:
    """`torch.save` in one step: `path` holds the old checkpoint or the new one, never a part.

    The old one stays as `previous`, where that is given and the file system has hard links.
    """
    if previous and Path(path).exists():
        with contextlib.suppress(OSError):
            link = previous.with_suffix(".link")
            link.unlink(missing_ok=True)
            os.link(path, link)
            os.replace(link, previous)
    write_atomically(path, lambda file: torch.save(obj, file))


def load_checkpoint(path: str | Path) -> dict:
    """The dict in a file of `save_checkpoint`, on the CPU.

    Each record is compared with its CRC-32, which `torch.load` does not do, so that no flipped bit passes.

    Raises:
        UserError: the file is missing, damaged, no dict, or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; {_remedy(path, 'check the path')}")
    remedy = _remedy(path, "use another checkpoint or make it again")
    with explained(f"{path} is damaged or not a checkpoint of tensors and plain values", remedy):
        check_zip(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path} holds a {type(checkpoint).__name__}, not a dict of weights; {remedy}")
    return checkpoint


def load_into(model: nn.Module, path: str | Path, new_head: bool = True) -> LoadReport:
    """Load pretrained weights, or the "model" entry of a run's checkpoint, into `model`.

    Exactly the classifier head (`model.pretrained_cfg["classifier"]`) may be missing or of another size; it
    then stays as the model initialised it. With `new_head=False` it has to fit too. A position or patch
    embedding of another grid is resampled by timm's own rule.

    Raises:
        UserError: as `load_checkpoint`, or any other key is missing, unexpected or of another shape, or a
            value is not finite. The model is then unchanged.
    """
    checkpoint, own = load_checkpoint(path), model.state_dict()
    from_run = isinstance(checkpoint.get("model"), dict)
    state = clean_state_dict(checkpoint["model"] if from_run else checkpoint)
    fitted = to_timm_layout(state, model, path)
    if from_run:  # timm assumes the published grid (14 x 14) behind any position embedding of that length
        fitted |= {key: state[key] for key in own if key in state and _shape(state[key]) == _shape(own[key])}
    names = model.pretrained_cfg.get("classifier") or "head"
    names = (names,) if isinstance(names, str) else names
    head = {key for key in own | fitted if key.rpartition(".")[0] in names}
    head_new = new_head and any(_shape(fitted.get(key)) != _shape(own.get(key)) for key in head)
    if head_new:
        fitted = {key: value for key, value in fitted.items() if key not in head}
    require_fit(fitted, {key: value for key, value in own.items() if not (head_new and key in head)}, path)
    require_finite(fitted, path)
    model.load_state_dict(own | fitted)
    resampled = tuple(key for key in fitted if fitted[key] is not state.get(key))
    return LoadReport(len(fitted), head_new, resampled)


def to_timm_layout(state: State, model: nn.Module, path: str | Path) -> State:
    """timm's own conversion of published layouts, with position and patch embedding on the model's grid."""
    family = next(sys.modules[c.__module__] for c in type(model).__mro__ if c.__module__.startswith("timm."))
    convert = getattr(family, "checkpoint_filter_fn", None) or family.checkpoint_filter_fn_classifier
    kwargs = {"adapt_layer_scale": True} if isinstance(model, VisionTransformer) else {}
    with explained(f"{path} does not fit the model", "check the file and the model's name"):
        return convert(state, model, **kwargs)


def require_fit(state: State, own: State, path: str | Path) -> None:
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    shared = [key for key in own if key in state and _shape(state[key]) != _shape(own[key])]
    wrong = [f"{key} {_shape(state[key])} instead of {_shape(own[key])}" for key in shared]
    problems = [f"{len(missing)} of {len(own)} keys missing ({few(missing)})"] * bool(missing)
    problems += [f"{len(unexpected)} keys unexpected ({few(unexpected)})"] * bool(unexpected)
    problems += [f"{len(wrong)} of another shape ({few(wrong)})"] * bool(wrong)
    if problems:
        raise UserError(f"{path} does not fit the model: {'; '.join(problems)}")


def require_finite(state: State, path: str | Path) -> None:
    if unusable := [key for key, value in state.items() if not value.isfinite().all()]:
        raise UserError(f"{path} has no finite values for {few(unusable)}; use other weights")


def check_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} has a wrong checksum")
        # torch skips the bytes of an entry marked as a folder and returns memory that was never written
        if any(entry.external_attr & DOS_FOLDER for entry in archive.infolist()):
            raise zipfile.BadZipFile("an entry became a folder")


@contextlib.contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Damaged files and networks make the libraries raise almost anything; say it in one sentence."""
    try:
        yield
    except Exception as error:
        reason = str(error).split("\n")[0].split(". ")[0][:150]
        raise UserError(f"{what} ({type(error).__name__}: {reason}); {remedy}") from error


def _remedy(path: Path, otherwise: str) -> str:
    """The command that makes the file at `path`, if its name tells."""
    if path.suffix != ".pt" and path.exists():
        return f"files from elsewhere come in through {COMMAND} NAME --from_file {path}"
    if not timm.is_model(path.stem):
        return otherwise
    options = f" --save_dir {path.parent}" * (path.parent != Path("models")) + " --force" * path.exists()
    random = "" if path.exists() else ", or train from random weights with PRETRAINED=false"
    return f"fetch it with: {COMMAND} {path.stem}{options}{random}"


def few(names: list[str]) -> str:
    return ", ".join(names[:3]) + ", …" * (len(names) > 3)


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None
