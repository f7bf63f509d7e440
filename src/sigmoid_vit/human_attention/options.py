"""What is imported and how, checked before anything is read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from sigmoid_vit.data.images import listed
from sigmoid_vit.errors import UserError
from sigmoid_vit.human_attention.cells import MASK_EDITS
from sigmoid_vit.human_attention.gaze import SIGMA
from sigmoid_vit.human_attention.selection import SELECTIONS
from sigmoid_vit.human_attention.sources import SOURCES
from sigmoid_vit.store import PREDICTED

EXPORT = "export"  # the source of edits that are edits already
GAZE = ("gaze", "gaze_maps")
OWN_MASKS = {"cub200": "cub200", "cub200_2011": "cub200_2011", "ink": "digits_decoy"}  # source: its data set
RANGES = (
    ("object_value", 0, 1),
    ("covered", 0, 1),
    ("sigma", 0.001, 1),
    ("fraction", 1e-6, 1),
    ("count", 1, 10**9),
    ("missing", 0, 1),
    ("wrong", 0, 1),
    ("seed", 0, 2**32 - 1),
)


@dataclass
class ImportOptions:
    """What is imported and how; `src/import_edits.py` has an option for every field.

    A cell is inside a mask when at least the share `covered` of it is marked, that is at least 0.5 in the
    map; 0 asks for a single marked pixel. None stands for 0.5, for ink for 0, as its strokes are thin. What
    becomes of the cells is `mask_edit`, see `cells.cell_edit`; None stands for "soft" with gaze, else for
    "background". `fraction` is of all images of the part; they are taken among those that can be edited.

    Raises:
        UserError: a value that is not valid.
    """

    source: str  # one of SOURCES, or EXPORT, which takes files (the folder) and edits alone
    files: Sequence[str] = ()  # of the source, see `open_source`
    edits: str = "edits.sqlite"
    dataset: str | None = None  # None: the run's, or the one that the source belongs to
    dataset_path: str | None = None
    split: str = "train"
    grid: str | None = None  # "GHxGW"
    run: str | None = None  # instead of a grid: the grid of its model, its data set, and its judgement
    mask_edit: str | None = None
    object_value: float = 0.9
    covered: float | None = None
    boxes: bool = False
    sigma: float = SIGMA
    select: str = "random"
    fraction: float | None = None  # None, and count None: as many as there are
    count: int | None = None
    seed: int = 0  # of the selection, and of the split where there is no run
    missing: float = 0.0  # to study careless edits: share of the edited cells that are left out, at random,
    wrong: float = 0.0  # and share of the edited images whose map is random, half of the cells inside
    author: str | None = None  # None: the source
    val_fraction: float | None = None  # None: the run's, or that of `Settings`
    skip_bad_images: bool | None = None

    def __post_init__(self) -> None:
        self._check_choices()
        if self.source == EXPORT:
            self._check_nothing_else()
            return
        self.mask_edit = self.mask_edit or ("soft" if self.source in GAZE else "background")
        if self.covered is None:
            self.covered = 0.0 if self.source == "ink" else 0.5
        for name, low, high in RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UserError(f"--{name} is {value}; it must lie between {low} and {high}")
        if self.count is not None and self.fraction is not None:
            raise UserError("--count and --fraction both say how many images are edited; give one of them")
        if (self.grid is None) == (self.run is None):
            raise UserError("give either --grid, such as 14x14, or --run, whose model's grid is taken")
        if self.select != "random" and self.run is None:
            raise UserError(f"--select {self.select} asks a trained network; name its run with --run")
        self.cells = parse_grid(self.grid) if self.grid else None

    def _check_choices(self) -> None:
        choices = (
            ("from", self.source, (*SOURCES, EXPORT)),
            ("mask_edit", self.mask_edit, (None, *MASK_EDITS)),
            ("select", self.select, SELECTIONS),
        )
        for name, value, valid in choices:
            if value not in valid:
                raise UserError(
                    f"--{name} is {value!r}; the valid ones are {listed(list(filter(None, valid)))}"
                )
        least, most, what = {
            "masks": (0, 1, "the folder of the masks, or nothing for masks beside the images"),
            "gaze": (1, 1_000_000, "at least one file of fixations"),
            "gaze_maps": (1, 1, "the folder of the maps"),
            EXPORT: (1, 1, "the folder that was exported"),
        }.get(self.source, (0, 0, "nothing, the masks are the data set's own"))
        if not least <= len(self.files) <= most:
            raise UserError(f"--from {self.source} takes {what}; it got {listed(self.files) or 'nothing'}")
        if self.boxes and self.source not in ("cub200", "cub200_2011"):
            raise UserError(f"--boxes needs the source cub200 or cub200_2011; {self.source} has no boxes")
        if self.author == PREDICTED:
            raise UserError(
                f"--author {PREDICTED} is kept for edits that a network predicted; give a person's"
            )

    def _check_nothing_else(self) -> None:
        given = [
            f"--{f.name}"
            for f in fields(self)
            if f.name not in ("source", "files", "edits") and getattr(self, f.name) not in (f.default, False)
        ]
        if given:
            raise UserError(f"--from {EXPORT} takes the edits as they are; leave out {listed(given)}")


def parse_grid(text: str) -> tuple[int, int]:
    """ "14x14" as (14, 14), height first."""
    sides = re.fullmatch(r"([1-9][0-9]{0,2})x([1-9][0-9]{0,2})", text)
    if not sides:
        raise UserError(f"--grid is {text!r}; it must be height x width in cells, such as 14x14")
    return int(sides[1]), int(sides[2])
