"""Mask and heat map files: what their values mean."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sigmoid_vit.annotations.cells import MARKED
from sigmoid_vit.data import BadImage
from sigmoid_vit.data.images import MAX_PIXELS, SUFFIXES, listed, open_image
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import as_text

ARRAYS = ".npy"
MASK_SUFFIXES = {*SUFFIXES, ARRAYS}
LABEL_IDS = 32  # values below this, and 255 for a border, are the label ids of a mask, not shades of grey
BORDER = 255  # of objects in masks of label ids, as Pascal VOC has it: neither object nor background
GREY = 32  # of 255, the largest difference between the colours of a pixel that still counts as grey
SHADES = 8  # a mask with more values between black and white than these is a picture of soft edges or heat
BACKGROUND = ("background", "_background_", "unlabeled", "unlabelled")
IGNORED = (224, 224, 192)  # the colour of BORDER in Pascal VOC's palette

ALPHA = "masks taken from the transparency of their files (opaque: the object)"
FEW_GREYS = (
    "masks with a few grey values, of which those of half of white or more count as the object; if they are "
    "label ids, name those of the object with --mask_value"
)


@dataclass
class MaskValues:
    """Which values of mask files are the object; and what is found in the files, as they are read."""

    chosen: tuple[str, ...] = ()  # numbers, or names of a label map; none: see `read_mask`
    inverted: bool = False  # the masks mark the background
    colours: dict[str, tuple[int, int, int]] | None = None  # of a label map
    label_ids: set[int] = field(default_factory=set)
    in_empty: set[str] = field(default_factory=set)  # values of masks in which nothing is marked
    told: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # sentence: file names

    def __post_init__(self) -> None:
        self.numbers = [int(value) for value in self.chosen if value.isdecimal()]
        self.names = [value for value in self.chosen if not value.isdecimal()]
        unknown = [name for name in self.names if name not in (self.colours or {})]
        if unknown and self.colours:
            names = listed(list(self.colours))
            raise UserError(f"--mask_value {listed(unknown)} is not in labelmap.txt; its labels: {names}")
        if unknown:
            raise UserError(
                f"--mask_value {listed(unknown)}: in mask files without a labelmap.txt values are numbers"
            )


@dataclass(frozen=True)
class _Pixels:
    """A mask file. `values` [h, w] are numbers, or `colours` uint8 [h, w, 3] where it is coloured."""

    values: np.ndarray | None
    colours: np.ndarray | None = None
    exact: bool = True  # not so in a JPEG, which changes values
    from_alpha: bool = False


def read_map(path: Path) -> np.ndarray:
    """A mask or heat map file as float32 [h, w] in 0..1, turned upright by its EXIF orientation.

    White is 1; 16-bit files keep all their steps; a file (JPEG aside) with no value above 1 is a mask of 0
    and 1; an array of floats is as it is. Where transparency varies, only what is opaque counts. Raises
    `BadImage`, also for colours, whose strength would be a guess.
    """
    return _as_map(path, _load(path))


def read_mask(path: Path, meaning: MaskValues | None = None) -> np.ndarray:
    """A mask file as float32 [h, w]: where it has one of the chosen values, or as `read_map`.

    Without a choice, a file of label ids (coloured by a palette, or all values below LABEL_IDS or BORDER) is
    marked wherever it is neither 0 nor BORDER. With a label map, colours are labels, and all but the
    background are marked. A border is never marked, also not in `inverted` masks. Raises `BadImage`.
    """
    meaning = meaning or MaskValues()
    pixels = _load(path)
    marked, border = _marked(path, pixels, meaning)
    if marked is None:
        found = _as_map(path, pixels)
        if pixels.from_alpha:
            meaning.told[ALPHA].add(as_text(path))
        elif pixels.exact and 0 < len(np.unique(found[(found > 0) & (found < 1)])) <= SHADES:
            meaning.told[FEW_GREYS].add(as_text(path))
        found = 1 - found if meaning.inverted else found
    else:
        found = (~(marked | border) if meaning.inverted else marked).astype(np.float32)
    if found.size and found.max() < MARKED:
        meaning.in_empty |= _shown(pixels)
    return found


def read_label_map(folder: Path) -> dict[str, tuple[int, int, int]] | None:
    """Colours by label, from the labelmap.txt that CVAT writes in or above a folder of masks; None without.

    A label without a colour has the one of its place in Pascal VOC's palette.

    Raises:
        UserError: a line that is not "label:red,green,blue:parts:actions".
    """
    file = next((f for f in (folder / "labelmap.txt", folder.parent / "labelmap.txt") if f.is_file()), None)
    if file is None:
        return None
    colours = {}
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                name, colour, *_ = line.rsplit(":", 3)
                red, green, blue = map(int, colour.split(",")) if colour else _voc_colour(len(colours))
            except ValueError:
                where = f"{as_text(file)}, line {number}"
                raise UserError(f"{where} is {line!r}, not label:red,green,blue:parts:actions") from None
            colours[name] = red, green, blue
    return colours


def _voc_colour(i: int) -> tuple[int, ...]:
    """Red, green and blue of number i in Pascal VOC's palette: each takes every third bit, lowest first."""
    return tuple(sum((i >> 3 * bit + channel & 1) << 7 - bit for bit in range(8)) for channel in range(3))


def _marked(path: Path, pixels: _Pixels, meaning: MaskValues) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Where the object and where a border is by label, bool [h, w]; None for a mask of grey values."""
    if meaning.colours and not meaning.numbers:
        return _by_colour(path, pixels, meaning)
    values = pixels.values
    if values is None or values.dtype.kind not in "iub":
        if meaning.numbers:
            raise BadImage(path, "has no whole numbers for --mask_value to choose from")
        return None, None
    border = values == BORDER
    if meaning.numbers:
        if not pixels.exact:
            raise BadImage(path, "is a JPEG, which changes values; save it as PNG for --mask_value")
        return np.isin(values, meaning.numbers), border & (BORDER not in meaning.numbers)
    ids = set(np.unique(values).tolist()) - {0, BORDER}
    small = bool(ids) and max(ids) < LABEL_IDS and min(ids) > 0 and (ids != {1} or border.any())
    if not pixels.exact or not (small or pixels.colours is not None):
        return None, None
    meaning.label_ids |= ids
    return np.isin(values, list(ids)), border


def _by_colour(path: Path, pixels: _Pixels, meaning: MaskValues) -> tuple[np.ndarray, np.ndarray]:
    """What a label map says of a file's colours."""
    colours = pixels.colours
    if colours is None and pixels.values is not None and pixels.values.dtype == np.uint8:
        colours = np.repeat(pixels.values[..., None], 3, axis=2)
    if colours is None:
        raise BadImage(path, "has no colours, which labelmap.txt would give a meaning")
    codes = colours.astype(np.int64) @ [65536, 256, 1]
    code = {name: (r * 256 + g) * 256 + b for name, (r, g, b) in meaning.colours.items()}
    ignored = (IGNORED[0] * 256 + IGNORED[1]) * 256 + IGNORED[2]
    strange = set(np.unique(codes).tolist()) - set(code.values()) - {0, ignored}
    if strange:
        red, rest = divmod(min(strange), 65536)
        raise BadImage(
            path, f"has the colour {red},{rest // 256},{rest % 256}, which labelmap.txt does not list"
        )
    chosen = meaning.names or [name for name in code if name.lower() not in BACKGROUND]
    return np.isin(codes, [code[name] for name in chosen]), codes == ignored


def _load(path: Path) -> _Pixels:
    if path.suffix.lower() == ARRAYS:
        return _Pixels(_array(path))
    with open_image(path) as image:
        exact = image.format != "JPEG"
        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            raise BadImage(path, "has floating-point pixels, save it with 8 or 16 bits, or as .npy")
        if image.mode.startswith("I"):
            return _Pixels(np.asarray(image), exact=exact)
        if image.has_transparency_data:
            seen = _seen(image.convert("RGBA"))
            if seen is not None:
                return _Pixels(seen, exact=exact, from_alpha=True)
        colours = np.asarray(image.convert("RGB"))
        if np.ptp(colours, axis=2).max() <= GREY:
            grey = np.asarray(image) if image.mode == "1" else np.asarray(image.convert("L"))
            return _Pixels(grey.astype(np.uint8) * 255 if image.mode == "1" else grey, exact=exact)
        return _Pixels(np.asarray(image) if image.mode == "P" else None, colours, exact)


def _seen(image: Image.Image) -> np.ndarray | None:
    """The mask that a half-transparent picture shows, uint8 [h, w]; None where all of it is equally opaque.

    It is the transparency itself where the opaque part is coloured (a cut-out object) or of one grey
    (strokes); else the grey picture before black.
    """
    pixels = np.asarray(image)
    alpha = pixels[..., 3]
    if not np.ptp(alpha):
        return None
    opaque = pixels[alpha > 0, :3].astype(np.int64)
    if np.ptp(opaque, axis=1).max() > GREY or not np.ptp(opaque, axis=0).any():
        return alpha
    return np.round(np.asarray(image.convert("L")) * (alpha / 255.0)).astype(np.uint8)


def _array(path: Path) -> np.ndarray:
    """The array of a .npy file, [h, w]."""
    try:
        values = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise BadImage(path, f"cannot be read ({error})") from error
    shape = values.shape
    values = values.squeeze()
    if values.ndim != 2 or values.dtype.kind not in "biuf" or not 0 < values.size <= MAX_PIXELS:
        raise BadImage(
            path, f"holds {values.dtype} of shape {list(shape)}; a mask is numbers [height, width]"
        )
    values = np.array(values.astype(np.uint8) if values.dtype.kind == "b" else values)
    if values.dtype.kind == "f" and not (
        np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
    ):
        raise BadImage(
            path, f"has floats from {values.min():g} to {values.max():g}; those of a mask are in 0..1"
        )
    return values


def _as_map(path: Path, pixels: _Pixels) -> np.ndarray:
    values = pixels.values
    if pixels.colours is not None:
        raise BadImage(path, "is coloured, save the mask or heat map as a grey image, white for 1")
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    is_small = path.suffix.lower() == ARRAYS and values.max(initial=0) <= 255
    full = 255 if values.dtype == np.uint8 or is_small else 65535
    if values.min(initial=0) < 0 or values.max(initial=0) > full:
        raise BadImage(path, "has 32-bit pixels, save it with 8 or 16 bits")
    return values.astype(np.float32) / (1 if values.max(initial=0) <= 1 and pixels.exact else full)


def _shown(pixels: _Pixels) -> set[str]:
    """The first values of a file, for a person."""
    if pixels.values is None:
        return {"{},{},{}".format(*colour) for colour in np.unique(pixels.colours.reshape(-1, 3), axis=0)[:5]}
    return {f"{value:g}" for value in np.unique(pixels.values)[:5].tolist()}
