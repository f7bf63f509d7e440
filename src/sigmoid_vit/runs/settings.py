"""The settings of a run: one dataclass makes the command line, config.json and docs/settings.md."""

import os
from dataclasses import asdict, dataclass, fields

from sigmoid_vit.data import DATASETS
from sigmoid_vit.errors import UserError
from sigmoid_vit.options import check_options, option

AUTO = ("auto", "true", "false")
PROPAGATE = ("false", "true", "stored")
CONTROLS = {
    "none": "none",
    "no_edits": "no edits",
    "shuffled": "edits of other images",
    "random_cells": "edits of random cells",
    "mean_map": "one mean edit for all images",
}
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
    "consistency",
    "attn_loss",
    "edit_layers",
    "edit_queries",
    "inject",
    "unedited",
    "propagate",
    "doubted",
    "control",
)
MOST = 2**32 - 1  # what numpy and scikit-learn take as a seed
LONGEST_NAME = 200  # bytes; file systems take 255, and tables of seeds add to a run's name
NOT_INHERITED = {"runs_name", "result_dir", "resume", "wandb", "projects_name", *STEP_2}


@dataclass
class Settings:
    """Everything a training run is determined by; each field is a command-line option of `src/train.py`."""

    # the run
    projects_name: str = option("Sigmoid_ViT_Training", "name of the wandb project")
    runs_name: str = option("cifar10_FT", "name of the run; its folder is RESULT_DIR/RUNS_NAME")
    result_dir: str = option("result", "folder of all runs")
    resume: bool = option(False, "continue the run from its last.pt")
    checkpoint_minutes: float = option(
        10.0, "write last.pt at least so often, besides after each epoch; 0: after each update", low=0
    )
    hung_minutes: float = option(
        30.0, "of several processes: how long one may not answer before all end", low=0.01, high=1440
    )
    wandb: bool = option(False, "log to wandb as well; its key is read from WANDB_API_KEY")
    seed: int = option(0, "seed of the weights, the order, the augmentation and the split", low=0, high=MOST)
    # data
    dataset: str = option("cifar10", "data set", tuple(DATASETS))
    dataset_path: str = option("data", "its folder")
    data_kwargs: dict = option(dict, "options of the data set, as key=value (digits_decoy: decoys=False)")
    val_fraction: float = option(
        0.1, "part of train that chooses the checkpoint; 0: the last epoch", low=0, high=0.9
    )
    group_by: str = option(
        "", "which images belong together, never cut apart: a regular expression on file names, or a CSV file"
    )
    split_seed: int = option(
        -1, "seed of the split; -1: that of FIRST_STEP, without it SEED", low=-1, high=MOST
    )
    img_size: int = option(224, "side of the square that every whole image is resized to, in pixels", low=1)
    hflip: float = option(0.5, "probability of a horizontal flip", low=0, high=1)
    crop_scale: float = option(0.7, "smallest area of a random resized crop; 1 for no crop", low=0.01, high=1)
    skip_bad_images: bool = option(False, "drop unreadable image files instead of stopping")
    cache_gib: float = option(
        4.0, "memory for decoded images in GiB; more are decoded anew in every epoch", low=0
    )
    workers: int = option(0, "image decoding workers; 0 for one per core", low=0)
    # model
    model_name: str = option("vit_small_patch16_224", "a model of timm, see docs/models.md")
    model_kwargs: dict = option(dict, "timm.create_model arguments, as key=value key=value")
    pretrained: str = option("", "weights file; empty for models/MODEL_NAME.pt, false for random weights")
    # optimisation
    batch_size: int = option(512, "images per update, over all processes and accumulation steps", low=1)
    grad_accum: int = option(1, "parts a batch is computed in, to save memory", low=1)
    epochs: int = option(10, "passes over the training images", low=1)
    opt: str = option("adam", "optimiser", ("adam", "adamw", "sgd"))
    lr: float = option(1e-4, "highest learning rate, reached after the warm-up")
    warmup: float = option(
        0.05, "part of the updates in which lr rises, before its cosine fall", low=0, high=1
    )
    weight_decay: float = option(0.0, "weight decay, not applied to biases and norms", low=0)
    clip_grad: float = option(1.0, "largest gradient norm", low=0)
    label_smoothing: float = option(0.0, "label smoothing of the cross-entropy", low=0, high=1)
    precision: str = option("auto", "auto is bf16 where the GPU has it", ("auto", "fp32", "bf16"))
    compile: bool = option(False, "torch.compile the model")
    # Step 2: learning from edits
    edits: str = option("", "edit store (edits.sqlite); empty for plain training")
    first_step: str = option("", "the run to start from; its settings, those above, are the defaults")
    hitl: str = option("full", "preset of the settings below", ("full", "paper"))
    attn_lambda: float = option(1.0, "weight of the alignment loss", low=0)
    consistency: float = option(
        1.0, "weight of the consistency loss: the whole image is to be answered as under its edit", low=0
    )
    attn_loss: str = option("bce", "alignment loss", ("bce", "mse", "kl"))
    edit_layers: str = option("all", "layers that edits apply to: all, last, or indices such as 8,9,10")
    edit_queries: str = option("all", "query rows that edits apply to", ("cls", "all"))
    inject: str = option("auto", "compute with edited attention; auto unless it gives the class away", AUTO)
    unedited: str = option("drop", "images without an edit: drop them, or train on them", ("drop", "train"))
    propagate: str = option(
        "false", "propagate edits to unedited images and train on them too; stored: as they were", PROPAGATE
    )
    doubted: str = option("train", "edits that propagation doubts: train on them, or drop", ("train", "drop"))
    control: str = option("none", "train with no edits, or with wrong ones, to compare with", tuple(CONTROLS))

    def __post_init__(self) -> None:
        check_options(self, str.upper)
        if self.split_seed == self.seed:
            self.split_seed = -1  # one way to say it
        if self.batch_size < self.grad_accum:
            raise UserError(f"BATCH_SIZE {self.batch_size} is smaller than GRAD_ACCUM {self.grad_accum}")
        if bool(self.first_step) and not self.edits and self.control == "none":
            raise UserError("FIRST_STEP is given without EDITS; Step 2 learns from the edits in a store")
        if self.propagate != "false" and not self.edits:
            raise UserError("PROPAGATE is given without EDITS; it makes edits from those in a store")
        if self.doubted == "drop" and self.propagate != "true":
            raise UserError("DOUBTED=drop needs PROPAGATE=true, which tells what edits are doubted")
        if not 0 < self.lr <= 1000:
            raise UserError(f"LR is {self.lr}; it must be above 0 and at most 1000")
        if not self.runs_name or "/" in self.runs_name or self.runs_name.startswith("."):
            raise UserError(f"RUNS_NAME is {self.runs_name!r}; it must be a plain folder name")
        if len(os.fsencode(self.runs_name)) > LONGEST_NAME:
            raise UserError(f"RUNS_NAME has {len(self.runs_name)} letters; it may have {LONGEST_NAME} bytes")

    @property
    def cut_seed(self) -> int:
        """The seed that the validation part is cut with."""
        return self.seed if self.split_seed < 0 else self.split_seed

    @property
    def val_chooses(self) -> bool:
        """Whether the epoch that is kept is the best on the validation part; Step 2 keeps the latest.

        In Step 2, the validation part shares the cue that the edits take away, so its accuracy would choose
        the epoch that still uses it.
        """
        return not (self.edits or self.first_step)

    def seen(self, part: str, which: str = "best") -> str | None:
        """Why new images may do worse than a part: "trained" on it, the epoch "chosen" by it, or None."""
        if part == "train":
            return "trained"
        return "chosen" if part == "val" and which == "best" and self.val_chooses else None

    def as_dict(self) -> dict:
        return asdict(self)


def settings_from_dict(values: dict) -> Settings:
    """Settings as a run's config.json holds them."""
    known = {f.name for f in fields(Settings)}
    values = {"consistency": 0.0, **values}  # runs made before there was such a loss had none
    return Settings(**{name: value for name, value in values.items() if name in known})
