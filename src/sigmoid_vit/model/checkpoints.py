"""Checkpoints: saved in one step, checked record by record, loaded without running pickled code."""

import contextlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_atomically
from sigmoid_vit.model.layouts import Found, State, check_zip, explained, read_weights

COMMAND = "python3 src/load_pretrained.py --model_name"


@dataclass(frozen=True)
class LoadReport:
    """What `load_into` did."""

    matched: int  # keys loaded
    head_new: bool  # the classifier head stayed as the model initialised it
    resampled: tuple[str, ...]  # embeddings brought to the model's grid
    where: str = ""  # what the keys of the network begin with in the file
    left: tuple[str, ...] = ()  # what else the file holds

    def __str__(self) -> str:
        loaded = f"{self.matched} keys loaded" + f" from {self.where}*" * bool(self.where)
        parts = [loaded, *(f"{key} resampled" for key in self.resampled)]
        parts += ["classifier head new"] * self.head_new
        return ", ".join(parts) + f"; not used: {', '.join(self.left)}" * bool(self.left)


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
    """Load weights of any layout that `read_weights` knows, or those of a run's checkpoint, into `model`.

    Exactly the classifier head (`model.pretrained_cfg["classifier"]`) may be missing or of another size; it
    then stays as the model initialised it. With `new_head=False` it has to fit too. A position or patch
    embedding of another grid is resampled by timm's own rule.

    Raises:
        UserError: as `read_weights`, the file is missing, or any other key is missing, unexpected or of
            another shape, or a value is not finite. The model is then unchanged.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} does not exist; {_remedy(Path(path), 'check the path')}")
    found, own = read_weights(path, model), model.state_dict()
    state, fitted = found.state, to_timm_layout(found, model, path)
    if found.where == "model.":  # timm assumes the published grid (14 x 14) behind any position embedding of
        # that length; a run's own is of its grid
        fitted |= {key: state[key] for key in own if key in state and _shape(state[key]) == _shape(own[key])}
    head = head_keys(model, own | fitted)
    head_new = new_head and any(_shape(fitted.get(key)) != _shape(own.get(key)) for key in head)
    if head_new:
        fitted = {key: value for key, value in fitted.items() if key not in head}
    require_fit(fitted, {key: value for key, value in own.items() if not (head_new and key in head)}, path)
    require_finite(fitted, path)
    model.load_state_dict(own | fitted)
    resampled = tuple(key for key in fitted if key in state and not _equal(fitted[key], state[key]))
    return LoadReport(len(fitted), head_new, resampled, found.where, found.left)


def head_keys(model: nn.Module, keys: Iterable[str]) -> set[str]:
    """Those of the classifier head."""
    names = model.pretrained_cfg.get("classifier") or "head"
    names = (names,) if isinstance(names, str) else names
    return {key for key in keys if key.rpartition(".")[0] in names}


def to_timm_layout(found: Found, model: nn.Module, path: str | Path) -> State:
    """timm's own conversion of published layouts, with position and patch embedding on the model's grid."""
    family = next(sys.modules[c.__module__] for c in type(model).__mro__ if c.__module__.startswith("timm."))
    convert = getattr(family, "checkpoint_filter_fn", None) or family.checkpoint_filter_fn_classifier
    kwargs = {"adapt_layer_scale": True} if isinstance(model, VisionTransformer) else {}
    with explained(f"{path} does not fit the model", "check the file and the model's name"):
        fitted = convert(dict(found.state), model, **kwargs)  # knows DINOv2 by its mask token
    fitted.pop("mask_token", None)
    return fitted


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


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None
