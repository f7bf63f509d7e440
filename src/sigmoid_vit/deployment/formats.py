"""The formats of an exported network: each is written from the network and loaded as other programs do."""

import json
import logging
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import safetensors.torch
import timm
import torch
from timm.models import save_for_hf
from torch import Tensor, nn

from sigmoid_vit.deployment.preprocessing import model_args, preprocessing
from sigmoid_vit.errors import UserError
from sigmoid_vit.model.edit import AttentionEdit
from sigmoid_vit.runs.network import Network

ONNX = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUT = "images", "class_logits"  # of a program: [B, 3, H, W] and [B, K]
Loaded = Callable[[Tensor], Tensor]  # images as the network's input to class logits


@dataclass
class Format:
    """A way to hand a network on."""

    write: Callable[["Exported", Path], None]  # into a folder
    load: Callable[[Path], Loaded]
    holds_edit: bool  # whether a standing edit can be a part of it
    needs: tuple[str, ...] = ()  # packages besides those of this program


@dataclass
class Exported:
    """What is exported: a network on the CPU, and the standing edit inside it."""

    network: Network
    edit: AttentionEdit | None = None

    def program(self) -> torch.export.ExportedProgram:
        """From images [B, 3, H, W] to class logits [B, K], for any B."""
        images = torch.zeros(2, 3, *self.network.transform.size)
        shapes = {INPUT: {0: torch.export.Dim("batch")}}
        return torch.export.export(
            _Whole(self.network.model, self.edit).eval(), (images,), dynamic_shapes=shapes
        )


class _Whole(nn.Module):
    def __init__(self, model: nn.Module, edit: AttentionEdit | None) -> None:
        super().__init__()
        self.model, self.edit = model, edit

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images) if self.edit is None else self.model(images, edit=self.edit)


def _write_timm(exported: Exported, folder: Path) -> None:
    network = exported.network
    data = {**network.input_config, "input_size": (3, *network.transform.size), "crop_pct": 1.0}
    save_for_hf(
        network.model,
        str(folder),
        model_config={"label_names": network.classes, "pretrained_cfg": {"tag": network.name}},
        model_args=model_args(network),
        safe_serialization=True,
        data_config={**data, "crop_mode": "squash"},
    )


def _load_timm(folder: Path) -> Loaded:
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def _write_safetensors(exported: Exported, folder: Path) -> None:
    told = preprocessing(exported.network)
    about = {"format": "pt", "preprocessing": json.dumps(told, ensure_ascii=False)}
    state = {key: value.contiguous() for key, value in exported.network.model.state_dict().items()}
    safetensors.torch.save_file(state, folder / "model.safetensors", about)


def _load_safetensors(folder: Path) -> Loaded:
    file = folder / "model.safetensors"
    with safetensors.safe_open(file, "pt") as opened:
        told = json.loads(opened.metadata()["preprocessing"])
    model = timm.create_model(told["model"], **told["model_args"])
    model.load_state_dict(safetensors.torch.load_file(file))
    return model.eval()


def _write_torch_export(exported: Exported, folder: Path) -> None:
    torch.export.save(exported.program(), folder / "model.pt2")


def _load_torch_export(folder: Path) -> Loaded:
    return torch.export.load(folder / "model.pt2").module()


def _write_onnx(exported: Exported, folder: Path) -> None:
    program = torch.onnx.export(exported.program(), input_names=[INPUT], output_names=[OUTPUT], verbose=False)
    program.save(folder / "model.onnx", external_data=False)


def _load_onnx(folder: Path) -> Loaded:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


FORMATS = {
    "timm": Format(_write_timm, _load_timm, holds_edit=False),
    "safetensors": Format(_write_safetensors, _load_safetensors, holds_edit=False),
    "onnx": Format(_write_onnx, _load_onnx, holds_edit=True, needs=ONNX),
    "torch_export": Format(_write_torch_export, _load_torch_export, holds_edit=True),
}


def format_of(name: str) -> Format:
    """The format of this name.

    Raises:
        UserError: packages that it needs are missing.
    """
    found = FORMATS[name]
    if missing := [package for package in found.needs if find_spec(package) is None]:
        raise UserError(f"--to {name} needs {', '.join(missing)}: pip install {' '.join(found.needs)}")
    return found


@contextmanager
def quiet():
    """While it is entered, exporters do not print warnings about their own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
