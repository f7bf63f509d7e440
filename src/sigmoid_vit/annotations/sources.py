"""Where people marked the object or looked: a map in 0..1 over each whole image, from files of many kinds."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import ImageOps

from sigmoid_vit.annotations.gaze import SIGMA, gaze_map, inside, read_fixations
from sigmoid_vit.data import BadImage, DataModule, Part, known_ids
from sigmoid_vit.data.cub import Cub2011
from sigmoid_vit.data.images import SUFFIXES, open_image, upright_size
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import as_text

SOURCES = ("masks", "cub200", "cub200_2011", "gaze", "gaze_maps", "ink")
LABEL_IDS = 32  # values below this, and 255 for a border, are the label ids of a mask, not shades of grey
BORDER = 255  # of objects in masks of label ids, as Pascal VOC has it: neither object nor background
GREY = 32  # of 255, the largest difference between the colours of a pixel that still counts as grey
KEYS = "image_id is the number in images.txt of CUB-200-2011, elsewhere the image's id without suffix"


@dataclass
class Source:
    """The maps of a part's images."""

    read: Callable[[int], np.ndarray | None]  # float32 [h, w] in 0..1 over the whole of image i, None without
    where: str  # what was searched, for the sentence that nothing was found
    unknown: list[str] = field(default_factory=list)  # names in the source that belong to no image
    among_images: list[str] = field(default_factory=list)  # maps that the data set takes for images
    outside: dict[str, int] = field(default_factory=dict)  # fixations outside their image, by image id
    label_ids: set[int] = field(default_factory=set)  # of masks of label ids read so far


def open_source(
    name: str,
    files: Sequence[str],
    data: DataModule,
    part: Part,
    boxes: bool = False,
    sigma: float = SIGMA,
    mask_value: Sequence[int] = (),
    heat: bool = False,
) -> Source:
    """The maps of one of `SOURCES` for the images of a part of a data set.

    Args:
        name: "masks", a mask or heat map file per image; "cub200", "cub200_2011" and "ink", the data set's
            own masks; "gaze", files of fixations; "gaze_maps", a heat map file per image.
        files: the folder of masks (none: beside the images) or of gaze maps, or the files of fixations.
        boxes: read the data set's bounding boxes instead of its masks.
        sigma: standard deviation of the Gaussian around a fixation, as a share of the image's longer side.
        mask_value: the values of the object in mask files; none: see `read_mask`.
        heat: the mask files are heat maps, whose values are never label ids.

    Raises:
        UserError: a file or folder is missing, or is not what it should be.
    """
    if name == "masks":
        folder = Path(files[0]).expanduser() if files else data.root
        return _masks(folder, data, part, mask_value, heat)
    if name == "gaze":
        return _gaze(files, data, part, sigma)
    if name == "gaze_maps":
        return _gaze_maps(Path(files[0]).expanduser(), data, part)
    if boxes:
        return Source(lambda i: box_map(part.box(i), image_size(part, i)), "the boxes of the data set")
    return Source(part.mask, "the masks that come with the data set")


def own_masks(data: DataModule, part: Part) -> Source | None:
    """The masks that come with the data set or lie beside its images; None where there are none."""
    if part.masks:
        return Source(part.mask, "the data set")
    return _masks(data.root, data, part) if data.masks_beside_images else None


def read_map(path: Path) -> np.ndarray:
    """A mask or heat map file as float32 [h, w] in 0..1, turned upright by its EXIF orientation.

    White is 1; 16-bit files keep all their steps; a file (JPEG aside) with no value above 1 is a mask of 0
    and 1. Transparency is dropped. Raises `BadImage`, also for colours, whose strength would be a guess.
    """
    with open_image(path) as image:
        lossy = image.format == "JPEG"
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            pixels, full = np.asarray(image), 65535
        elif image.mode == "F":
            raise BadImage(path, "has floating-point pixels, save it with 8 or 16 bits")
        else:
            if np.ptp(np.asarray(image.convert("RGB")), axis=2).max() > GREY:
                raise BadImage(path, "is coloured, save the mask or heat map as a grey image, white for 1")
            pixels, full = np.asarray(image.convert("L")), 255
        if pixels.min() < 0 or pixels.max() > full:
            raise BadImage(path, "has 32-bit pixels, save it with 8 or 16 bits")
        return pixels.astype(np.float32) / (1 if pixels.max() <= 1 and not lossy else full)


def read_mask(path: Path, mask_value: Sequence[int] = (), label_ids: set[int] | None = None) -> np.ndarray:
    """A mask file as float32 [h, w]: where it has one of `mask_value`, or as `read_map`.

    Without `mask_value`, a file of label ids (coloured by a palette, or all values below LABEL_IDS or BORDER)
    is marked wherever it is neither 0 nor BORDER; what ids it has goes into `label_ids`. Raises `BadImage`.
    """
    with open_image(path) as image:
        lossy = image.format == "JPEG"
        is_coloured = image.mode == "P" and np.ptp(np.asarray(image.convert("RGB")), axis=2).max() > GREY
        image = ImageOps.exif_transpose(image)
        values = np.asarray(image)
    if values.ndim == 3 and not np.ptp(values[..., :3], axis=2).any():
        values = values[..., 0]
    if mask_value and values.ndim == 2:
        return np.isin(values, mask_value).astype(np.float32)
    if values.ndim == 2 and not lossy and values.dtype.kind in "iu":
        ids = set(np.unique(values).tolist()) - {0, BORDER}
        if is_coloured or (ids and max(ids) < LABEL_IDS and ids != {1}):
            if label_ids is not None:
                label_ids |= ids
            return np.isin(values, list(ids)).astype(np.float32)
    return read_map(path)


def box_map(box: np.ndarray | None, size: tuple[int, int]) -> np.ndarray | None:
    """A box (left, top, right, bottom) in pixels as a mask float32 [h, w] of an image of this size."""
    if box is None:
        return None
    left, top, right, bottom = box
    y, x = (np.arange(n) + 0.5 for n in size)
    return np.outer((top <= y) & (y <= bottom), (left <= x) & (x <= right)).astype(np.float32)


def image_size(part: Part, i: int) -> tuple[int, int]:
    """Height and width of an image of a part, in pixels."""
    return tuple(part.images.shape[-2:]) if part.paths is None else upright_size(part.paths[i])


def _gaze(files: Sequence[str], data: DataModule, part: Part, sigma: float) -> Source:
    fixations, keys = read_fixations(files), _keys(data, part.ids)

    def read(i: int) -> np.ndarray | None:
        return gaze_map(fixations[keys[i]], sigma) if keys[i] in fixations else None

    known = _keys(data, known_ids(data, part))
    outside = {
        image_id: int((~inside(fixations[key])).sum())
        for image_id, key in zip(part.ids, keys, strict=True)
        if key in fixations
    }
    outside = {image_id: n for image_id, n in outside.items() if n}
    return Source(read, f"{', '.join(files)} ({KEYS})", _unknown(fixations, known, data), outside=outside)


def _gaze_maps(folder: Path, data: DataModule, part: Part) -> Source:
    files, keys = _files(folder), _keys(data, part.ids)

    def read(i: int) -> np.ndarray | None:
        return read_map(files[keys[i]][0]) if keys[i] in files else None

    known = _keys(data, known_ids(data, part))
    return Source(read, f"{folder} (<image_id>.jpg; {KEYS})", _unknown(files, known, data))


def _masks(
    folder: Path | None,
    data: DataModule,
    part: Part,
    mask_value: Sequence[int] = (),
    heat: bool = False,
) -> Source:
    """Mask files in a folder laid out like the data set, with or without its first level (train, images).

    The mask of train/crack/7.jpg is train/crack/7.png or crack/7.png, or either with _mask behind the 7. In
    the folder of the data set itself, where masks lie beside the images, 7.png is the mask of 7.jpg only.
    """
    files = _files(folder)
    images = {path.resolve() for p in (data.train, data.val, part) if p for path in p.paths or ()}
    among_images = {file for found in files.values() for file in found if file.resolve() in images}

    def find(image_id: str) -> Path | None:
        image = PurePosixPath(image_id)
        for name in _mask_names(image_id):
            for file in files.get(name, ()):
                png_of_other = file.suffix.lower() == ".png" != image.suffix.lower()
                if file not in among_images or file.stem != image.stem or png_of_other:
                    return file
        return None

    paths = [find(image_id) for image_id in part.ids]
    known = [name for image_id in known_ids(data, part) for name in _mask_names(image_id)]
    masks = [name for name in files if name.endswith("_mask") or not among_images]
    label_ids: set[int] = set()

    def read(i: int) -> np.ndarray | None:
        if paths[i] is None:
            return None
        return read_map(paths[i]) if heat else read_mask(paths[i], mask_value, label_ids)

    return Source(
        read,
        f"{folder} (as <class>/<stem>.png or <class>/<stem>_mask.png, with or without train/ before it)",
        _unknown(masks, known, data),
        [str(path) for path in paths if path in among_images],
        label_ids=label_ids,
    )


def _mask_names(image_id: str) -> list[str]:
    """What the mask of an image may be called, without suffix, below the folder of masks."""
    stem = PurePosixPath(image_id).with_suffix("")
    names = [stem.as_posix(), PurePosixPath(*stem.parts[1:]).as_posix()]
    return [name + ending for name in names for ending in ("_mask", "")]


def _files(folder: Path | None) -> dict[str, list[Path]]:
    """All image files below a folder by their relative path without suffix; PNG before other formats."""
    if folder is None or not folder.is_dir():
        missing = f"there is no folder {folder}" if folder else "this data set has no folder of its own"
        raise UserError(f"{missing}; name the folder that holds a mask or heat map for each image")
    files = defaultdict(list)
    for where, _, names in os.walk(folder, followlinks=True):
        for path in map(Path(where).joinpath, sorted(names)):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                files[as_text(path.relative_to(folder).with_suffix(""))].append(path)
    for found in files.values():
        found.sort(key=lambda path: path.suffix.lower() != ".png")
    return dict(sorted(files.items()))


def _unknown(names: Iterable[str], known: Iterable[str], data: DataModule) -> list[str]:
    """The names that belong to no known image, nor by their first folder to a test part."""
    known = set(known)
    return [name for name in names if name not in known and name.split("/")[0] not in data.test_parts]


def _keys(data: DataModule, ids: Iterable[str]) -> list[str]:
    """What gaze files call these images: their numbers in CUB-200-2011, elsewhere ids without suffix."""
    if not isinstance(data, Cub2011):
        return [PurePosixPath(image_id).with_suffix("").as_posix() for image_id in ids]
    lines = (data.root / "images.txt").read_text(encoding="utf-8").splitlines()
    number = {file: key for key, file in (line.split(maxsplit=1) for line in lines if line.strip())}
    return [number[image_id.removeprefix("images/")] for image_id in ids]
