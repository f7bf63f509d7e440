"""What is imported and how, checked before anything is read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from sigmoid_vit.annotations.cells import BY_LABEL, MASK_EDITS
from sigmoid_vit.annotations.formats import BESIDE_IMAGES, FORMATS
from sigmoid_vit.annotations.gaze import SIGMA
from sigmoid_vit.annotations.selection import SELECTIONS
from sigmoid_vit.annotations.sources import SOURCES
from sigmoid_vit.data import DATASETS
from sigmoid_vit.data.images import listed
from sigmoid_vit.edits.store import PROPAGATED
from sigmoid_vit.errors import UserError
from sigmoid_vit.options import check_options, option

EXPORT = "export"  # the source of edits that are edits already
GAZE = ("gaze", "gaze_maps")
MANY = 1_000_000  # files
OWN_MASKS = {"cub200": "cub200", "cub200_2011": "cub200_2011", "ink": "digits_decoy"}  # source: its data set


@dataclass
class ImportOptions:
    """What is imported and how; `src/import_edits.py` has an option for every field.

    Raises:
        UserError: a value that is not valid.
    """

    source: Sequence[str] = option(
        text=f"{', '.join(SOURCES)}; then the folder of masks (none: beside the images) or of gaze maps, the "
        "files or folders of an annotation tool (voc, yolo, labelme, none: beside the images), or the gaze "
        "files; ink is digits_decoy's own and stands in for a person; export and a folder of "
        "src/export_edits.py: those edits as they are",
        flag="--from",
        nargs="+",
        metavar=("SOURCE", "PATH"),
    )
    edits: str = option("edits.sqlite", "the store of the edits")
    run: str | None = option(
        None, "a run, result/<RUNS_NAME>: its model's grid, its data set, and its network for --select"
    )
    grid: str | None = option(None, "instead of --run: patch grid as HEIGHTxWIDTH in cells, such as 14x14")
    dataset: str | None = option(None, "data set (default: the run's, or the source's own)", tuple(DATASETS))
    dataset_path: str | None = option(None, "its folder (default: the run's, or data)")
    split: str = option("train", "train, val or a test part")
    val_fraction: float | None = option(
        None, "part of train kept as val (default: the run's, or 0.1)", low=0, high=0.9
    )
    group_by: str | None = option(
        None, "which images belong together, as train.py has it (default: the run's, or none)"
    )
    mask_edit: str | None = option(
        None,
        "background: cells outside become 0; object: cells inside become --object_value; both; soft: every "
        "cell becomes the mean of the map; labels: cells in shapes that an annotation tool calls keep become "
        "--object_value, those called erase become 0 (default: soft for gaze and gaze_maps, else background)",
        MASK_EDITS,
    )
    object_value: float = option(0.9, "value of the cells inside", low=0, high=1)
    covered: float | None = option(
        None,
        "share of a cell that is marked (map at 0.5 or more) from which it counts as inside; 0: any marked "
        "pixel (default: 0.5; for ink 0, as its strokes are thin)",
        low=0,
        high=1,
    )
    mask_value: Sequence[str] = option(
        (),
        "what the object is called: values in mask files of label ids, such as 2 (default: all but 0 and "
        "255), or names of labels in files of annotation tools and in a labelmap.txt (default: all)",
        nargs="+",
    )
    inverted: bool = option(
        False, "masks, annotation tools: what is marked is the background, not the object"
    )
    boxes: bool = option(False, "CUB: bounding boxes instead of segmentations")
    sigma: float = option(
        SIGMA, "gaze: standard deviation of the Gaussian, of the image's longer side", low=0.001, high=1
    )
    fraction: float | None = option(
        None,
        "edit at most this share of the part's images (default: all that have a mask)",
        low=1e-6,
        high=1,
    )
    count: int | None = option(None, "edit at most this many images", low=1)
    select: str = option(
        "random",
        "which: stratified over classes; misclassified; least sure; attention mostly outside the mask",
        SELECTIONS,
    )
    seed: int = option(0, "of random, and without --run of the cut of val", low=0, high=2**32 - 1)
    missing: float = option(
        0.0, "to study careless edits: leave out this share of the cells, at random", low=0, high=1
    )
    wrong: float = option(
        0.0, "for study: give this share of the edited images a random map, half of it inside", low=0, high=1
    )
    author: str | None = option(None, "whose edits these are (default: the source's name)")
    skip_bad_images: bool | None = option(None, "leave out unreadable files instead of stopping")
    same_pictures: bool = option(
        False,
        "export: the files were only saved anew (quality, size) and show what they showed; their edits "
        "hold for the files of --run's data set as they are now",
    )

    def __post_init__(self) -> None:
        self.kind, *self.files = self.source
        check_options(self)
        self._check_source()
        if self.kind == EXPORT:
            self._check_nothing_else()
            return
        if self.same_pictures:
            raise UserError(f"--same_pictures is for --from {EXPORT}; leave it out")
        self.mask_edit = self.mask_edit or ("soft" if self.kind in GAZE else "background")
        if self.covered is None:
            self.covered = 0.0 if self.kind == "ink" else 0.5
        if self.count is not None and self.fraction is not None:
            raise UserError("--count and --fraction both say how many images are edited; give one of them")
        if (self.grid is None) == (self.run is None):
            raise UserError("give either --grid, such as 14x14, or --run, whose model's grid is taken")
        if self.select != "random" and self.run is None:
            raise UserError(f"--select {self.select} asks a trained network; name its run with --run")
        self.cells = parse_grid(self.grid) if self.grid else None

    def _check_source(self) -> None:
        if self.kind not in (*SOURCES, EXPORT):
            raise UserError(f"--from is {self.kind!r}; it must be one of {', '.join((*SOURCES, EXPORT))}")
        least, most, what = {
            "masks": (0, 1, "the folder of the masks, or nothing for masks beside the images"),
            **dict.fromkeys(FORMATS, (1, MANY, "at least one file, or the folder they are in")),
            **dict.fromkeys(BESIDE_IMAGES, (0, MANY, "files, or the folder they are in")),
            "gaze": (1, MANY, "at least one file of fixations"),
            "gaze_maps": (1, 1, "the folder of the maps"),
            EXPORT: (1, 1, "the folder that was exported"),
        }.get(self.kind, (0, 0, "nothing, the masks are the data set's own"))
        if not least <= len(self.files) <= most:
            raise UserError(f"--from {self.kind} takes {what}; it got {listed(self.files) or 'nothing'}")
        if self.boxes and self.kind not in ("cub200", "cub200_2011"):
            raise UserError(f"--boxes needs the source cub200 or cub200_2011; {self.kind} has no boxes")
        self.mask_value = tuple(map(str, self.mask_value))
        given = [f"--{name}" for name in ("mask_value", "inverted") if getattr(self, name)]
        if given and self.kind not in ("masks", *FORMATS):
            raise UserError(f"{listed(given)}: only for masks and the files of annotation tools")
        if self.mask_value and self.kind == "masks" and self.mask_edit == "soft":
            raise UserError("--mask_edit soft takes the shades of masks as they are; leave out --mask_value")
        if self.mask_edit == BY_LABEL and (
            self.kind not in FORMATS or given or self.select == "attention_off"
        ):
            raise UserError(
                f"--mask_edit {BY_LABEL} goes with files of annotation tools ({', '.join(FORMATS)}), without "
                "--mask_value, --inverted and --select attention_off"
            )
        if self.author == PROPAGATED:
            raise UserError(f"--author {PROPAGATED} is kept for edits that propagation made; give a person's")

    def _check_nothing_else(self) -> None:
        if self.same_pictures and self.run is None:
            raise UserError("--same_pictures needs --run, whose data set has the files as they are now")
        known = ("source", "edits", *(("same_pictures", "run", "dataset_path", "split") * self.same_pictures))
        given = [
            f"--{f.name}"
            for f in fields(self)
            if f.name not in known and getattr(self, f.name) not in (f.default, False)
        ]
        if given:
            raise UserError(f"--from {EXPORT} takes the edits as they are; leave out {listed(given)}")


def parse_grid(text: str) -> tuple[int, int]:
    """ "14x14" as (14, 14), height first."""
    sides = re.fullmatch(r"([1-9][0-9]{0,2})x([1-9][0-9]{0,2})", text)
    if not sides:
        raise UserError(f"--grid is {text!r}; it must be height x width in cells, such as 14x14")
    return int(sides[1]), int(sides[2])
