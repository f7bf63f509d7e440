"""Pretrained weights and checkpoints: fetched, imported, saved, checked, loaded; pickled code never runs."""

import contextlib
import difflib
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import huggingface_hub
import timm
import torch
from timm.models import VisionTransformer, clean_state_dict, set_pretrained_download_progress
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from sigmoid_vit.errors import UserError
from sigmoid_vit.files import sha256, write_atomically

COMMAND = "python3 src/load_pretrained.py --model_name"
REACH_SECONDS = 5  # how long the hub may take to answer before it counts as out of reach
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


def save_checkpoint(path: str | Path, obj: dict) -> None:
    """`torch.save` in one step: `path` holds the old checkpoint or the new one, never a part."""
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
    with _explained(f"{path} is damaged or not a checkpoint of tensors and plain values", remedy):
        _check_zip(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path} holds a {type(checkpoint).__name__}, not a dict of weights; {remedy}")
    return checkpoint


def load_into(model: VisionTransformer, path: str | Path, new_head: bool = True) -> LoadReport:
    """Load pretrained weights, or the "model" entry of a run's checkpoint, into `model`.

    Exactly the classifier head (`model.pretrained_cfg["classifier"]`) may be missing or of another size; it
    then stays as the model initialised it. With `new_head=False` it has to fit too. A position or patch
    embedding of another grid is resampled by timm's own rule.

    Raises:
        UserError: as `load_checkpoint`, or any other key is missing, unexpected or of another shape. The
            model is then unchanged.
    """
    checkpoint, own = load_checkpoint(path), model.state_dict()
    from_run = isinstance(checkpoint.get("model"), dict)
    state = clean_state_dict(checkpoint["model"] if from_run else checkpoint)
    fitted = _to_timm_layout(state, model, path)
    if from_run:  # timm assumes the published grid (14 x 14) behind any position embedding of that length
        fitted |= {key: state[key] for key in own if key in state and _shape(state[key]) == _shape(own[key])}
    names = model.pretrained_cfg.get("classifier") or "head"
    names = (names,) if isinstance(names, str) else names
    head = {key for key in own | fitted if key.rpartition(".")[0] in names}
    head_new = new_head and any(_shape(fitted.get(key)) != _shape(own.get(key)) for key in head)
    if head_new:
        fitted = {key: value for key, value in fitted.items() if key not in head}
    _require_fit(fitted, {key: value for key, value in own.items() if not (head_new and key in head)}, path)
    model.load_state_dict(own | fitted)
    resampled = tuple(key for key in fitted if fitted[key] is not state.get(key))
    return LoadReport(len(fitted), head_new, resampled)


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
    remedy = f"check the connection or import a file: {COMMAND} {model_name} --from_file PATH"
    with _explained(f"the weights of {model_name} could not be downloaded", remedy), _bounded_hub():
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
    own = model.state_dict()
    state = _read_npz(source, model) if source.suffix == ".npz" else _read_tensors(source)
    if state.keys() != own.keys():
        state = _to_timm_layout(state, model, source)
    _require_fit(state, own, source)
    if broken := [key for key, value in state.items() if not value.isfinite().all()]:
        raise UserError(f"{source} gives {model_name} no finite values for {_few(broken)}")
    model.load_state_dict(state)
    return _save_published(model, path, f"file {source.name}")


def stock_model(model_name: str, device: str = "cpu") -> VisionTransformer:
    """timm's own model with random weights; with device "meta" shapes alone, in a moment.

    Raises:
        UserError: timm does not know the name or its tag, or the model is no `VisionTransformer`.
    """
    if model_name not in {*timm.list_models(), *timm.list_models(include_tags=True)}:
        raise UserError(f"{model_name} is not a model of timm{_similar(model_name)}")
    with torch.device(device):
        model = timm.create_model(model_name)
    if not isinstance(model, VisionTransformer):
        raise UserError(f"{model_name} is no Vision Transformer of timm{_similar(model_name)}")
    return model


def _similar(model_name: str, pretrained: bool = False) -> str:
    """The end of a sentence: the name's successor, the tags of the same model, or the closest names."""
    if successor := timm.models.get_deprecated_models().get(model_name):
        return f"; it is now called {successor}"
    listed = timm.list_models(module=["vision_transformer", "deit"], include_tags=True, pretrained=pretrained)
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


def _save_published(model: VisionTransformer, path: Path, source: str) -> Path:
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


def _read_tensors(path: Path) -> State:
    """The state dict in a .pt, .pth, .bin or .safetensors file, without its usual wrappers and prefixes."""
    what = f"{path} is damaged, not a file of weights, or needs pickled code, which is never run"
    with _explained(what, "a file of torch.save(model.state_dict(), PATH) works"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if zipfile.is_zipfile(path):
            _check_zip(path)
        state = timm.models.load_state_dict(str(path))
        state = state["teacher"] if isinstance(state.get("teacher"), dict) else state
    for prefix in ("module.", "backbone."):  # keys beside them belong to a projection head
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)} or state
    return state


def _read_npz(path: Path, model: VisionTransformer) -> State:
    """The state in an .npz file of JAX through timm's reader; what the file lacks is NaN."""
    with _explained(f"{path} is damaged or not this model in the JAX layout", "check the file and the name"):
        _check_zip(path)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(torch.nan)
        model.load_pretrained(str(path))
        with zipfile.ZipFile(path) as archive:  # blocks beyond the model's depth are not read
            beyond = [name for name in archive.namelist() if f"block_{len(model.blocks)}/" in name]
    return model.state_dict() | dict.fromkeys(beyond)


def _to_timm_layout(state: State, model: VisionTransformer, path: str | Path) -> State:
    """timm's own conversion of published layouts, with position and patch embedding on the model's grid."""
    with _explained(f"{path} does not fit the model", "check the file and the model's name"):
        return checkpoint_filter_fn(state, model, adapt_layer_scale=True)


def _require_fit(state: State, own: State, path: str | Path) -> None:
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    shared = [key for key in own if key in state and _shape(state[key]) != _shape(own[key])]
    wrong = [f"{key} {_shape(state[key])} instead of {_shape(own[key])}" for key in shared]
    problems = [f"{len(missing)} of {len(own)} keys missing ({_few(missing)})"] * bool(missing)
    problems += [f"{len(unexpected)} keys unexpected ({_few(unexpected)})"] * bool(unexpected)
    problems += [f"{len(wrong)} of another shape ({_few(wrong)})"] * bool(wrong)
    if problems:
        raise UserError(f"{path} does not fit the model: {'; '.join(problems)}")


def _check_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} has a wrong checksum")
        # torch skips the bytes of an entry marked as a folder and returns memory that nobody wrote
        if any(entry.external_attr & DOS_FOLDER for entry in archive.infolist()):
            raise zipfile.BadZipFile("an entry became a folder")


@contextlib.contextmanager
def _explained(what: str, remedy: str) -> Iterator[None]:
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
    return f"fetch it with: {COMMAND} {path.stem}{options}"


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + ", …" * (len(names) > 3)
