"""One reader for files of weights, whatever library wrote them: what they hold, under timm's names."""

import argparse
import contextlib
import copy
import re
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from sigmoid_vit.errors import UserError

DOS_FOLDER = 0x10  # the bit of a zip entry's attributes that calls it a folder
State = dict[str, Tensor]

BETTER = re.compile(r"ema|teacher|base_encoder")  # of two networks in a file: the averaged one, the encoder
# what pre-training leaves beside the network; anything else that is too much is an error
LEFT_OVER = re.compile(
    r"(decoder\w*|mask_embed|head\.(mlp|last_layer|parametrizations)|(dino|ibot)_head|projector"
    r"|predictor|pooler|projection_head|rope_embed|local_cls_norm|text\w*|logit_scale|logit_bias)\b"
)
# transformers' names, of its versions 4 and 5, as those of the networks' first authors
TRANSFORMERS = [
    (r"\bembeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"\bembeddings\.class_embedding$", "cls_token"),
    (r"\bembeddings\.distillation_token$", "dist_token"),
    (r"\bembeddings\.position_embeddings?(\.weight)?$", "pos_embed"),
    (r"\bembeddings\.patch_embeddings?(\.projection)?\.", "patch_embed.proj."),
    (r"\b(encoder\.|model\.)?layers?\.(\d+)\.", r"blocks.\2."),
    (r"\b(attention\.attention|attention|self_attn)\.(q|k|v)(uery|ey|alue|_proj)\.", r"attn.\2."),
    (r"\b(attention\.output\.dense|attention\.o_proj|self_attn\.out_proj)\.", "attn.proj."),
    (r"\b(layernorm_before|layer_norm1)\.", "norm1."),
    (r"\b(layernorm_after|layer_norm2)\.", "norm2."),
    (r"\b(intermediate\.dense|mlp\.up_proj)\.", "mlp.fc1."),
    (r"\b(output\.dense|mlp\.down_proj)\.", "mlp.fc2."),
    (r"\bmlp\.weights_in\.", "mlp.w12."),
    (r"\bmlp\.weights_out\.", "mlp.w3."),
    (r"\blayer_scale(\d)\.lambda1$", r"gamma_\1"),
    (r"\b(layernorm|post_layernorm)\.", "norm."),
    (r"\bpre_layrnorm\.", "norm_pre."),
    (r"^(classifier|cls_classifier|visual_projection)\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
]


@dataclass(frozen=True)
class Found:
    """The network in a file."""

    state: State
    where: str  # what its keys begin with in the file, such as "teacher.backbone."; "" for nothing
    left: tuple[str, ...]  # what else the file holds, by the beginnings of its keys


def read_weights(path: str | Path, model: nn.Module) -> Found:
    """The network that a .pt, .pth, .bin, .ckpt, .safetensors or .npz file holds for a model of timm.

    Wrappers and prefixes are found by the model's own keys: of DataParallel, torch.compile, Lightning, timm,
    DINO, DINOv2, MoCo v3, MAE and transformers. Of several networks, it is the averaged one (EMA, teacher).

    Raises:
        UserError: the file is damaged, no file of weights, or needs pickled code, which is never run.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return Found(_read_npz(path, model), "", ())
    own = model.state_dict()
    flat = _named(_flat(_read(path)))
    where = _prefix(flat, own)
    state, left = {}, {}
    for key, value in flat.items():
        name = key.removeprefix(where)
        is_beside = not key.startswith(where) and (name not in own or where + name in flat)
        if is_beside or (name not in own and LEFT_OVER.match(name)):
            left[_apart(key, where) if is_beside else name.split(".")[0]] = value
        else:
            state[name] = value
    left = [name for name, value in left.items() if isinstance(value, Tensor)]
    return Found(_fused(state, own), where, tuple(left))


def _read(path: Path) -> dict:
    what = f"{path} is damaged, not a file of weights, or needs pickled code, which is never run"
    with explained(what, "a file of torch.save(model.state_dict(), PATH) works"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        if zipfile.is_zipfile(path):
            check_zip(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # plain values: options of the training
            content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
        return content


def _flat(content: dict, above: str = "") -> dict:
    """Nested dicts as one, the names joined by dots."""
    flat = {}
    for key, value in content.items():
        inner = isinstance(value, dict)
        flat |= _flat(value, f"{above}{key}.") if inner else {f"{above}{key}": value}
    return flat


def _named(flat: dict) -> dict:
    """Keys of transformers, and of DINOv2's blocks in chunks, under the names of the networks' authors."""
    renamed = [(r"\bblocks\.\d+\.(\d+)\.", r"blocks.\1.")]
    if any("embeddings.patch_embedding" in key for key in flat):
        renamed = TRANSFORMERS
    named = {}
    for key, value in flat.items():
        for pattern, name in renamed:
            key = re.sub(pattern, name, key)
        if key.endswith("cls_token") and isinstance(value, Tensor):
            value = value.reshape(1, 1, -1)
        elif key.endswith("pos_embed") and isinstance(value, Tensor) and value.ndim == 2:
            value = value[None]
        named[key] = value
    return named


def _prefix(flat: dict, own: State) -> str:
    """What the keys of the network begin with: what most of the model's own keys follow."""
    hits = {}
    for key in flat:
        parts = key.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in own:
                before = ".".join([*parts[:i], ""])
                hits[before] = hits.get(before, 0) + 1
    if hits:
        return max(hits, key=lambda before: (hits[before], bool(BETTER.search(before)), -len(before)))
    wrappers = ("state_dict.", "model.", "module.")  # of a layout that timm converts
    return next((name for name in wrappers if any(key.startswith(name) for key in flat)), "")


def _apart(key: str, where: str) -> str:
    """The beginning of a key up to where it leaves that of the network."""
    parts = key.split(".")
    same = takewhile(lambda pair: pair[0] == pair[1], zip(parts, where.split("."), strict=False))
    return ".".join(parts[: len(list(same)) + 1])


def _fused(state: State, own: State) -> State:
    """Queries, keys and values in one tensor, as in timm's attention; a bias that keys lack is 0."""
    for key in [key for key in state if re.search(r"\battn\.q\.(weight|bias)$", key)]:
        q, k, v = (key.replace("attn.q.", f"attn.{name}.") for name in "qkv")
        if v in state:
            parts = [state.pop(q), state.pop(k, None), state.pop(v)]
            parts[1] = torch.zeros_like(parts[0]) if parts[1] is None else parts[1]
            fused, before = key.replace("attn.q.", "attn.qkv."), key.removesuffix("q.bias")
            if before + "q_bias" in own:  # EVA's, whose keys have none
                state |= {before + "q_bias": parts[0], before + "v_bias": parts[2]}
            elif fused in own or any(part.any() for part in parts):
                state[fused if fused in own else f"{fused} (not 0)"] = torch.cat(parts)
    if "pos_embed" not in own and "register_tokens" in state:  # by this name timm knows DINOv3
        state["storage_tokens"] = state.pop("register_tokens")
    return state


def _read_npz(path: Path, model: nn.Module) -> State:
    """The state in an .npz file of JAX through timm's reader; what the file lacks is NaN."""
    model = copy.deepcopy(model)
    with explained(f"{path} is damaged or not this model in the JAX layout", "check the file and the name"):
        check_zip(path)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(torch.nan)
        model.load_pretrained(str(path))
        with zipfile.ZipFile(path) as archive:  # blocks beyond the model's depth are not read
            beyond = [name for name in archive.namelist() if f"block_{len(model.blocks)}/" in name]
    return model.state_dict() | dict.fromkeys(beyond)


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
