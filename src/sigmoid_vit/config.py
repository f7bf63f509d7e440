"""The settings of a run: one dataclass, from which the command line and the run's config.json are made."""

import argparse
import difflib
import typing
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace

from timm.utils import ParseKwargs

from sigmoid_vit.data import DATASETS
from sigmoid_vit.errors import UserError


def setting(default, text: str, choices: tuple[str, ...] | None = None):
    """A field of `Settings` with its help text and, where they are fixed, its valid values."""
    metadata = {"help": text, "choices": choices}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Settings:
    """Everything a training run is determined by; each field is a command-line option of `src/train.py`."""

    # the run
    projects_name: str = setting("Sigmoid_ViT_Training", "name of the wandb project")
    runs_name: str = setting("cifar10_FT", "name of the run; its folder is RESULT_DIR/RUNS_NAME")
    result_dir: str = setting("result", "folder of all runs")
    resume: bool = setting(False, "continue the run from its last.pt")
    wandb: bool = setting(
        False, "log to wandb as well (WANDB_API_KEY or WANDB_MODE=offline in the environment)"
    )
    seed: int = setting(0, "seed of the split, the weights, the order and the augmentation")
    # data
    dataset: str = setting("cifar10", "data set", tuple(DATASETS))
    dataset_path: str = setting("data", "its folder")
    val_fraction: float = setting(
        0.1, "part of train kept for choosing the checkpoint; 0 keeps the last epoch"
    )
    img_size: int = setting(224, "side of the square that every whole image is resized to, in pixels")
    hflip: float = setting(0.5, "probability of a horizontal flip")
    crop_scale: float = setting(0.7, "smallest area of a random resized crop; 1 for no crop")
    skip_bad_images: bool = setting(False, "drop unreadable image files instead of stopping")
    cache_gib: float = setting(
        4.0, "memory for decoded images in GiB; larger data sets are decoded in every epoch"
    )
    workers: int = setting(0, "image decoding workers; 0 for one per core")
    # model
    model_name: str = setting("vit_small_patch16_224", "timm model built on its VisionTransformer")
    model_kwargs: dict = setting(dict, "timm.create_model arguments, as key=value key=value")
    pretrained: str = setting("", "weights file; empty for models/MODEL_NAME.pt, false for random weights")
    # optimisation
    batch_size: int = setting(512, "images per update, over all processes and accumulation steps")
    grad_accum: int = setting(1, "parts a batch is computed in, to save memory")
    epochs: int = setting(10, "passes over the training images")
    opt: str = setting("adam", "optimiser", ("adam", "adamw", "sgd"))
    lr: float = setting(1e-4, "highest learning rate, reached after the warm-up")
    warmup: float = setting(
        0.05, "part of the updates in which the learning rate rises, before its cosine fall"
    )
    weight_decay: float = setting(0.0, "weight decay, not applied to biases and norms")
    clip_grad: float = setting(1.0, "largest gradient norm")
    label_smoothing: float = setting(0.0, "label smoothing of the cross-entropy")
    precision: str = setting("auto", "auto is bf16 where the GPU has it", ("auto", "fp32", "bf16"))
    compile: bool = setting(False, "torch.compile the model")

    def __post_init__(self) -> None:
        for name, low in (
            ("batch_size", 1),
            ("grad_accum", 1),
            ("epochs", 1),
            ("img_size", 1),
            ("workers", 0),
        ):
            if getattr(self, name) < low:
                raise UserError(f"{name.upper()} is {getattr(self, name)}; it must be at least {low}")
        for name, low, high in (
            ("val_fraction", 0, 0.9),
            ("hflip", 0, 1),
            ("crop_scale", 0.01, 1),
            ("warmup", 0, 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise UserError(
                    f"{name.upper()} is {getattr(self, name)}; it must lie between {low} and {high}"
                )
        if self.batch_size < self.grad_accum:
            raise UserError(f"BATCH_SIZE {self.batch_size} is smaller than GRAD_ACCUM {self.grad_accum}")
        if not self.lr > 0:
            raise UserError(f"LR is {self.lr}; it must be above 0")
        if not self.runs_name or "/" in self.runs_name or self.runs_name.startswith("."):
            raise UserError(f"RUNS_NAME is {self.runs_name!r}; it must be a plain folder name")

    def as_dict(self) -> dict:
        return asdict(self)


class SettingsParser(argparse.ArgumentParser):
    """One option per field of `Settings`; one left out takes the data set's default, then the field's."""

    def __init__(self, description: str) -> None:
        super().__init__(description=description, allow_abbrev=False)
        for f in fields(Settings):
            self.add_argument(f"--{f.name}", **_argument(f))

    def parse_settings(self, args: list[str] | None = None) -> Settings:
        """Settings from the command line.

        Raises:
            UserError: an unknown option or value; the sentence lists the valid ones.
        """
        given, unknown = self.parse_known_args(args)
        if unknown:
            self.error(_unknown_option(unknown[0]))
        given = vars(given)
        defaults = getattr(DATASETS[given.get("dataset", Settings.dataset)], "defaults", {})
        return Settings(**{**defaults, **given})  # the data set's preferences, then what was asked for

    def error(self, message: str) -> typing.NoReturn:
        raise UserError(f"{message} (--help lists the settings)")


def settings_from_dict(values: dict) -> Settings:
    """Settings as a run's config.json holds them."""
    known = {f.name for f in fields(Settings)}
    return Settings(**{name: value for name, value in values.items() if name in known})


def with_settings(settings: Settings, **changes) -> Settings:
    """A copy with some settings changed, checked again."""
    return replace(settings, **changes)


def parse_bool(text: str) -> bool:
    """ "true" or "false" in any case."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _argument(f: Field) -> dict:
    default = f.default if f.default is not MISSING else f.default_factory()
    shown = "" if default in ("", {}) else f" (default: {default})"
    argument = {"help": f.metadata["help"] + shown, "default": argparse.SUPPRESS}
    if f.type is bool:
        return {**argument, "type": parse_bool, "nargs": "?", "const": True, "metavar": "true|false"}
    if f.type is dict:
        return {**argument, "nargs": "*", "action": ParseKwargs, "metavar": "KEY=VALUE"}
    return {**argument, "type": f.type, "choices": f.metadata["choices"]}


def _unknown_option(option: str) -> str:
    names = [f"--{f.name}" for f in fields(Settings)]
    close = difflib.get_close_matches(option.split("=")[0], names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the settings are {' '.join(names)}"
    return f"unknown setting {option}; {hint}"
