"""What became of every image in an import, for a person and as a file beside the store."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from sigmoid_vit.annotations.cells import MARKED
from sigmoid_vit.annotations.source import Source
from sigmoid_vit.data.images import listed
from sigmoid_vit.files import write_json

COUNTED = {  # what comes between an image and its edit
    "missing": "without a mask",
    "empty": f"with an empty mask (no pixel reaches {MARKED:g})",
    "small": "with a mask that covers no cell enough (lower --covered; 0: any marked pixel counts)",
    "full": "with a mask over every cell, so nothing is left to edit (raise --covered: fewer cells count; "
    "--inverted, if it marks the background)",
    "bad": "unreadable (--skip_bad_images)",
}


@dataclass
class Account:
    """What became of the images of a part; each list holds their ids."""

    edits: str
    author: str
    grid: tuple[int, int]
    part: str = "train"
    images: int = 0
    editable: int = 0  # of them, those that a mask gives an edit for
    wanted: int = 0
    edited: list[str] = field(default_factory=list)
    without_cells: list[str] = field(default_factory=list)  # edited images none of whose cells is edited
    replaced: list[str] = field(default_factory=list)  # edited images that had an edit in the store
    foreign: list[str] = field(default_factory=list)  # edits there before, of images this data set lacks
    resized: list[str] = field(default_factory=list)  # with a map of another size than the image
    unknown: list[str] = field(default_factory=list)  # names in the source that belong to no image
    among_images: list[str] = field(default_factory=list)  # maps that the data set takes for images
    outside: dict[str, int] = field(default_factory=dict)  # fixations outside their image, by image id
    label_ids: list[int] = field(default_factory=list)  # of masks of label ids
    labels: dict[str, int] = field(default_factory=dict)  # how many shapes have each label
    in_empty: list[str] = field(default_factory=list)  # values or labels found in empty masks
    told: dict[str, list[str]] = field(default_factory=dict)  # sentences, and the names they are about
    without: dict[str, list[str]] = field(default_factory=lambda: {reason: [] for reason in COUNTED})

    @property
    def path(self) -> Path:
        """Where `write` puts it: beside the store."""
        return Path(f"{self.edits}.account.json")

    def write(self) -> None:
        """Write the whole account, with all names, in place of that of the import before."""
        write_json(self.path, asdict(self))

    def text(self) -> str:
        """The account for a person: a line per matter, with its count and the first names."""
        gh, gw = self.grid
        lines = [
            (f"edits in {self.edits}, author {self.author}, grid {gh}x{gw}", self.edited),
            ("of them in place of an earlier edit, which stays in the history", self.replaced),
            ("WARNING: the store also holds edits of images that this data set does not have", self.foreign),
            ("of them without a cell, none is left (--missing, --wrong)", self.without_cells),
            *((f"not edited, {self.reason(reason)}", ids) for reason, ids in self.without.items()),
            ("masks of another size than their image, stretched over the whole of it", self.resized),
            *self.told.items(),
            ("names in the source that belong to no known image (test parts stay closed)", self.unknown),
            (
                "maps taken for images of the data set, to be named <stem>_mask or put into another folder",
                self.among_images,
            ),
        ]
        told = [f"{self.part}: {self.images} images, {self.editable} of them can be edited"]
        for what, ids in lines:
            if ids:
                told.append(f"{what}: {len(ids)} {_first(ids)}")
        if self.label_ids:
            ids = ", ".join(map(str, self.label_ids))
            told.append(
                f"masks of label ids {ids}: all of them are marked; --mask_value takes some, 255 is a border "
                "and counts as outside"
            )
        if self.labels:
            shapes = ", ".join(
                f"{label or 'without a label'} {n}" for label, n in sorted(self.labels.items())
            )
            told.append(f"shapes of each label: {shapes} (--mask_value chooses)")
        if self.outside:
            count, names = sum(self.outside.values()), _first(list(self.outside))
            told.append(f"fixations outside their image, left out: {count} {names}")
        if len(self.edited) < self.wanted:
            told.append(f"{self.wanted} were asked for; there are no more of that kind")
        return "\n".join([*told, f"all names: {self.path}"])

    def reason(self, key: str) -> str:
        """Why images have no edit, with what was found in masks that mark nothing."""
        found = f"; found there: {listed(self.in_empty, 8)}" if key == "empty" and self.in_empty else ""
        return COUNTED[key].replace(")", f"{found})", 1)

    def learn(self, source: Source) -> None:
        """Take over what was found in the source while it was read."""
        self.label_ids, self.labels = sorted(source.label_ids), dict(source.labels)
        self.in_empty = sorted(source.in_empty)
        self.told = {what: sorted(names) for what, names in source.told.items()}


def _first(ids: list[str]) -> str:
    return f"({', '.join(ids[:3])}{', ...' * (len(ids) > 3)})"
