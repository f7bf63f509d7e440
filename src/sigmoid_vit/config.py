"""The settings of a run: one dataclass, from which the command line and the run's config.json are made."""

import argparse
import difflib
import json
import math
import re
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path

from timm.utils import ParseKwargs

from sigmoid_vit.data import DATASETS
from sigmoid_vit.errors import Parser, UserError


def setting(
    default,
    text: str,
    choices: tuple[str, ...] | None = None,
    low: float | None = None,
    high: float = math.inf,
):
    """A field of `Settings` with its help text and, where they are fixed, its valid values or range."""
    metadata = {"help": text, "choices": choices, "low": low, "high": high}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


AUTO = ("auto", "true", "false")
PROPAGATE = ("false", "true", "stored")
CONTROLS = ("none", "no_edits", "shuffled")
PRESETS = {
    "full": {},  # the defaults of the settings below
    "paper": {
        "inject": "false",
        "attn_loss": "mse",
        "edit_layers": "last",
        "edit_queries": "cls",
        "unedited": "train",
    },
}
STEP_2 = (  # a second round of edits starts from its preset again, not from what the first round chose
    "edits",
    "first_step",
    "hitl",
    "attn_lambda",
    "attn_loss",
    "edit_layers",
    "edit_queries",
    "inject",
    "unedited",
    "propagate",
    "propagate_steps",
    "doubted",
    "control",
)
NOT_INHERITED = {"runs_name", "result_dir", "resume", "wandb", "projects_name", *STEP_2}


@dataclass
class Settings:
    """Everything a training run is determined by; each field is a command-line option of `src/train.py`."""

    # the run
    projects_name: str = setting("Sigmoid_ViT_Training", "name of the wandb project")
    runs_name: str = setting("cifar10_FT", "name of the run; its folder is RESULT_DIR/RUNS_NAME")
    result_dir: str = setting("result", "folder of all runs")
    resume: bool = setting(False, "continue the run from its last.pt")
    wandb: bool = setting(False, "log to wandb as well; its key is read from WANDB_API_KEY")
    seed: int = setting(0, "seed of the weights, the order, the augmentation and the split", low=0)
    # data
    dataset: str = setting("cifar10", "data set", tuple(DATASETS))
    dataset_path: str = setting("data", "its folder")
    data_kwargs: dict = setting(dict, "options of the data set, as key=value (digits_decoy: decoys=False)")
    val_fraction: float = setting(
        0.1, "part of train that chooses the checkpoint; 0: the last epoch", low=0, high=0.9
    )
    split_seed: int = setting(-1, "seed of the split; -1: that of FIRST_STEP, without it SEED", low=-1)
    img_size: int = setting(224, "side of the square that every whole image is resized to, in pixels", low=1)
    hflip: float = setting(0.5, "probability of a horizontal flip", low=0, high=1)
    crop_scale: float = setting(
        0.7, "smallest area of a random resized crop; 1 for no crop", low=0.01, high=1
    )
    skip_bad_images: bool = setting(False, "drop unreadable image files instead of stopping")
    cache_gib: float = setting(
        4.0, "memory for decoded images in GiB; more are decoded anew in every epoch", low=0
    )
    workers: int = setting(0, "image decoding workers; 0 for one per core", low=0)
    # model
    model_name: str = setting("vit_small_patch16_224", "timm model built on its VisionTransformer")
    model_kwargs: dict = setting(dict, "timm.create_model arguments, as key=value key=value")
    pretrained: str = setting("", "weights file; empty for models/MODEL_NAME.pt, false for random weights")
    # optimisation
    batch_size: int = setting(512, "images per update, over all processes and accumulation steps", low=1)
    grad_accum: int = setting(1, "parts a batch is computed in, to save memory", low=1)
    epochs: int = setting(10, "passes over the training images", low=1)
    opt: str = setting("adam", "optimiser", ("adam", "adamw", "sgd"))
    lr: float = setting(1e-4, "highest learning rate, reached after the warm-up")
    warmup: float = setting(
        0.05, "part of the updates in which lr rises, before its cosine fall", low=0, high=1
    )
    weight_decay: float = setting(0.0, "weight decay, not applied to biases and norms", low=0)
    clip_grad: float = setting(1.0, "largest gradient norm", low=0)
    label_smoothing: float = setting(0.0, "label smoothing of the cross-entropy", low=0, high=1)
    precision: str = setting("auto", "auto is bf16 where the GPU has it", ("auto", "fp32", "bf16"))
    compile: bool = setting(False, "torch.compile the model")
    # Step 2: learning from edits
    edits: str = setting("", "edit store (edits.sqlite); empty for plain training")
    first_step: str = setting("", "the run to start from; its settings, those above, are the defaults")
    hitl: str = setting("full", "preset of the settings below", ("full", "paper"))
    attn_lambda: float = setting(1.0, "weight of the alignment loss", low=0)
    attn_loss: str = setting("bce", "alignment loss", ("bce", "mse", "kl"))
    edit_layers: str = setting("all", "layers that edits apply to: all, last, or indices such as 8,9,10")
    edit_queries: str = setting("all", "query rows that edits apply to", ("cls", "all"))
    inject: str = setting("auto", "compute with edited attention; auto unless it gives the class away", AUTO)
    unedited: str = setting("drop", "images without an edit: drop them, or train on them", ("drop", "train"))
    propagate: str = setting(
        "false", "predict edits for unedited images and train on them too; stored: as they were", PROPAGATE
    )
    propagate_steps: int = setting(600, "updates in which a copy learns the edits it predicts from", low=1)
    doubted: str = setting(
        "train", "edits that propagation doubts: train on them, or drop", ("train", "drop")
    )
    control: str = setting("none", "train without edits, or with those of other images", CONTROLS)

    def __post_init__(self) -> None:
        for f in fields(self):
            value, low, high = getattr(self, f.name), f.metadata["low"], f.metadata["high"]
            if low is not None and not low <= value <= high:
                valid = f"at least {low}" if high == math.inf else f"between {low} and {high}"
                raise UserError(f"{f.name.upper()} is {value}; it must be {valid}")
        if self.split_seed == self.seed:
            self.split_seed = -1  # one way to say it
        if self.batch_size < self.grad_accum:
            raise UserError(f"BATCH_SIZE {self.batch_size} is smaller than GRAD_ACCUM {self.grad_accum}")
        if bool(self.first_step) and not self.edits and self.control == "none":
            raise UserError("FIRST_STEP is given without EDITS; Step 2 learns from the edits in a store")
        if self.propagate != "false" and not self.edits:
            raise UserError("PROPAGATE is given without EDITS; it predicts edits from those in a store")
        if self.doubted == "drop" and self.propagate != "true":
            raise UserError("DOUBTED=drop needs PROPAGATE=true, which tells what edits are doubted")
        if not self.lr > 0:
            raise UserError(f"LR is {self.lr}; it must be above 0")
        if not self.runs_name or "/" in self.runs_name or self.runs_name.startswith("."):
            raise UserError(f"RUNS_NAME is {self.runs_name!r}; it must be a plain folder name")

    @property
    def cut_seed(self) -> int:
        """The seed that the validation part is cut with."""
        return self.seed if self.split_seed < 0 else self.split_seed

    def as_dict(self) -> dict:
        return asdict(self)


class SettingsParser(Parser):
    """One option per field of `Settings`; one left out takes the data set's default, then the field's."""

    def __init__(self, description: str) -> None:
        super().__init__(description)
        for f in fields(Settings):
            self.add_argument(f"--{f.name}", **_argument(f))

    def parse_settings(self, args: list[str] | None = None) -> Settings:
        """Settings from the command line.

        Raises:
            UserError: an unknown option or value; the sentence lists the valid ones.
        """
        return self._settings(self._given(args))

    def parse_seeds(self, args: list[str] | None = None) -> tuple[list[Settings], str]:
        """The settings of each run that --seeds 0,1,2 asks for: RUNS_NAME_s0, ..., {seed} in paths filled in.

        Returns:
            The settings and the name of the table of these runs; without --seeds, one run and no name.
        """
        self.add_argument(
            "--seeds", default="", help="0,1,2: a run per seed, RUNS_NAME_s0, ..., and one table"
        )
        given = self._given(args)
        text = given.pop("seeds")
        if not text:
            return [self._settings(given)], ""
        if not re.fullmatch(r"\d+(,\d+)*", text):
            raise UserError(f"SEEDS is {text!r}; it must be numbers with commas between them, such as 0,1,2")
        seeds = [int(seed) for seed in text.split(",")]
        if len(set(seeds)) < len(seeds):
            raise UserError(f"SEEDS is {text!r}, which names a seed twice; each of them is one run")
        name = given.get("runs_name", Settings.runs_name)
        runs = [_seeded({**given, "seed": seed, "runs_name": f"{name}_s{seed}"}, str(seed)) for seed in seeds]
        return [self._settings(run) for run in runs], f"{name}_seeds"

    def _given(self, args: list[str] | None) -> dict:
        try:
            given, unknown = self.parse_known_args(args)
        except ValueError as error:  # timm's ParseKwargs on an argument without "="
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"MODEL_KWARGS or DATA_KWARGS cannot be read ({error}); give key=value key=value"
            ) from error
        if unknown:
            self.error(_unknown_option(unknown[0]))
        return vars(given)

    def _settings(self, given: dict) -> Settings:
        defaults = DATASETS[given.get("dataset", Settings.dataset)].defaults  # the data set's preferences
        if given.get("first_step"):
            defaults = _inherited(Path(given["first_step"]))
            _check_split(given, defaults)
        preset = PRESETS[given.get("hitl", Settings.hitl)]
        return Settings(**{**defaults, **preset, **given})


def _seeded(given: dict, seed: str) -> dict:
    paths = ("first_step", "edits", "pretrained")
    return {k: v.replace("{seed}", seed) if k in paths else v for k, v in given.items()}


def settings_from_dict(values: dict) -> Settings:
    """Settings as a run's config.json holds them."""
    known = {f.name for f in fields(Settings)}
    return Settings(**{name: value for name, value in values.items() if name in known})


class KeyValues(ParseKwargs):
    """timm's key=value pairs, with true and false in any case: as a text, "false" would count as true."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        super().__call__(parser, namespace, values, option_string)
        words = {"true": True, "false": False}
        pairs = getattr(namespace, self.dest)
        pairs |= {k: words.get(v.lower(), v) for k, v in pairs.items() if isinstance(v, str)}


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
        return {**argument, "nargs": "*", "action": KeyValues, "metavar": "KEY=VALUE"}
    return {**argument, "type": f.type, "choices": f.metadata["choices"]}


def _inherited(folder: Path) -> dict:
    """What Step 2 takes over from the run in `folder`: its settings, and its best weights to start from."""
    config, best = folder / "config.json", folder / "best.pt"
    if not config.is_file() or not best.is_file():
        raise UserError(f"FIRST_STEP {folder} is not a finished run: it must hold config.json and best.pt")
    first = settings_from_dict(json.loads(config.read_text(encoding="utf-8"))["settings"])
    kept = {name: value for name, value in asdict(first).items() if name not in NOT_INHERITED}
    return {**kept, "split_seed": first.cut_seed, "pretrained": str(best)}


def _check_split(given: dict, first: dict) -> None:
    """Refuse another split than FIRST_STEP's: it would be judged on images that it has learned."""
    if given.get("dataset", first["dataset"]) != first["dataset"]:
        return
    for name, harmless in (("split_seed", ()), ("val_fraction", (0,))):
        if name in given and given[name] not in (first[name], *harmless):
            raise UserError(
                f"{name.upper()} is {given[name]}, but FIRST_STEP cut its validation part with {first[name]} "
                "and has learned the other images; leave it out"
            )


def _unknown_option(option: str) -> str:
    names = [f"--{f.name}" for f in fields(Settings)]
    close = difflib.get_close_matches(option.split("=")[0], names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the settings are {' '.join(names)}"
    return f"unknown setting {option}; {hint}"
