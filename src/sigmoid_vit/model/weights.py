"""Published weights: fetched or imported, and kept with a record of where they come from."""

import contextlib
import difflib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import huggingface_hub
import timm
import torch
from timm.models import set_pretrained_download_progress
from torch import nn

from sigmoid_vit.errors import UserError
from sigmoid_vit.files import sha256, write_atomically
from sigmoid_vit.model.checkpoints import (
    COMMAND,
    default_weights_path,
    head_keys,
    require_finite,
    require_fit,
    to_timm_layout,
)
from sigmoid_vit.model.families import FAMILIES, refusal
from sigmoid_vit.model.layouts import explained, read_weights

REACH_SECONDS = 5  # how long the hub may take to answer before it counts as out of reach


def download_pretrained(model_name: str, save_dir: str | Path = "models", force: bool = False) -> Path:
    """Fetch timm's published weights to `save_dir/<model_name>.pt`, with a JSON of the same name beside it.

    The file is the full published state with its head, in timm's own keys. A tag ("<model>.dino") may be
    given; it is part of the file's name. An intact file is kept unless `force`.

    Raises:
        UserError: unknown model, no published weights, no network, or an existing file that is damaged.
    """
    stock_model(model_name, device="meta")
    path = default_weights_path(model_name, save_dir)
    if _already_there(path, force):
        return path
    if not timm.models.is_model_pretrained(model_name):
        raise UserError(f"timm publishes no weights for {model_name}{_similar(model_name, pretrained=True)}")
    page = timm.get_pretrained_cfg(model_name).hf_hub_id
    page = f"carry model.safetensors over from {huggingface_hub.constants.ENDPOINT}/{page}" * bool(page)
    remedy = f"check the connection, or {page or 'take a file'} and import it: "
    remedy += f"{COMMAND} {model_name} --from_file PATH"
    with explained(f"the weights of {model_name} could not be downloaded", remedy), _bounded_hub():
        model = timm.create_model(model_name, pretrained=True)
    return _save_published(model, path, model.pretrained_cfg.get("hf_hub_id") or model.pretrained_cfg["url"])


def import_weights(
    model_name: str, source: str | Path, save_dir: str | Path = "models", force: bool = False
) -> Path:
    """As `download_pretrained`, from a .pt, .pth, .bin, .safetensors or .npz (JAX) file that is at hand.

    Raises:
        UserError: the file is missing or damaged, needs pickled code, or does not fit the model exactly.
    """
    model, source = stock_model(model_name), Path(source)
    path = default_weights_path(model_name, save_dir)
    if not source.is_file():
        raise UserError(f"{source} does not exist; --from_file takes a .pt, .pth, .safetensors or .npz file")
    if _already_there(path, force):
        return path
    own, found = model.state_dict(), read_weights(source, model)
    state = found.state
    if state.keys() != own.keys():
        state = to_timm_layout(found, model, source)
    if (head := head_keys(model, own)) and own.keys() - state.keys() == head:
        raise UserError(f"{source} has no classifier head; PRETRAINED={source} takes it, with a new one")
    require_fit(state, own, source)
    require_finite(state, source)
    model.load_state_dict(state)
    return _save_published(model, path, f"file {source.name}")


def stock_model(model_name: str, device: str = "cpu") -> nn.Module:
    """timm's own model with random weights; with device "meta" shapes alone, in a moment.

    Raises:
        UserError: timm does not know the name or its tag, or the model's attention cannot be edited.
    """
    if model_name not in {*timm.list_models(), *timm.list_models(include_tags=True)}:
        raise UserError(f"{model_name} is not a model of timm{_similar(model_name)}")
    with torch.device(device):
        model = timm.create_model(model_name)
    if type(model) not in FAMILIES:
        raise UserError(f"{model_name} is no Vision Transformer of timm{_similar(model_name)}")
    if reason := refusal(model):
        raise UserError(f"{model_name} cannot be edited: {reason}")
    return model


def _similar(model_name: str, pretrained: bool = False) -> str:
    """The end of a sentence: the name's successor, the tags of the same model, or the closest names."""
    if successor := timm.models.get_deprecated_models().get(model_name):
        return f"; it is now called {successor}"
    modules = [family.__module__.rpartition(".")[2] for family in FAMILIES]
    listed = timm.list_models(module=modules, include_tags=True, pretrained=pretrained)
    architecture = model_name.split(".")[0]
    close = [name for name in listed if name.startswith(f"{architecture}.")]
    close = close or difflib.get_close_matches(architecture, {name.split(".")[0] for name in listed})
    return f"; did you mean {' or '.join(close[:5])}?" if close else "; for example vit_small_patch16_224"


@contextlib.contextmanager
def _bounded_hub() -> Iterator[None]:
    """The hub, quiet but for its progress bar; out of reach, its local cache without a minute of retries."""
    constants, logger = huggingface_hub.constants, logging.getLogger("huggingface_hub")
    before = constants.HF_HUB_OFFLINE, logger.level
    set_pretrained_download_progress(True)
    logger.setLevel(logging.ERROR)
    try:
        huggingface_hub.get_session().head(constants.ENDPOINT, timeout=REACH_SECONDS)
    except Exception:  # the hub's HTTP library differs between its versions
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before[0]
        logger.setLevel(before[1])


def _already_there(path: Path, force: bool) -> bool:
    """Whether the intact file is there; what does not match its record is not overwritten unasked."""
    if force or not path.exists():
        return False
    try:
        record = json.loads(path.with_suffix(".json").read_text())
        intact, source = record["sha256"] == sha256(path), record["source"]
    except (OSError, ValueError, TypeError, KeyError):
        intact = False
    if not intact:
        raise UserError(f"{path} does not match its record (damaged or changed); --force replaces it")
    print(f"{path} is already there and intact (from {source}); --force replaces it")
    return True


def _save_published(model: nn.Module, path: Path, source: str) -> Path:
    """Save the state and its record; the record first, so that no kill leaves weights without theirs."""
    published = model.pretrained_cfg
    fields = ("architecture", "tag", "mean", "std", "interpolation", "input_size", "num_classes")
    record = {"model_name": path.stem} | {field: published.get(field) for field in fields}
    record |= {"source": source, "versions": {"timm": timm.__version__, "torch": torch.__version__}}

    def write(file: BinaryIO) -> None:
        torch.save(model.state_dict(), file)
        file.flush()
        text = json.dumps(record | {"sha256": sha256(file.name)}, indent=2)
        write_atomically(path.with_suffix(".json"), lambda beside: beside.write(f"{text}\n".encode()))

    write_atomically(path, write)
    print(f"{path} saved from {source}: {len(model.state_dict())} keys, {path.stat().st_size / 1e6:.1f} MB")
    return path
