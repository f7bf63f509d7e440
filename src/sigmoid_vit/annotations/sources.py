"""Where people marked the object or looked: a map in 0..1 over each whole image, from files of many kinds."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from sigmoid_vit.annotations.formats import BESIDE_IMAGES, FORMATS
from sigmoid_vit.annotations.formats.shapes import box
from sigmoid_vit.annotations.gaze import SIGMA, gaze_map, inside, read_fixations
from sigmoid_vit.annotations.mask_files import read_map
from sigmoid_vit.annotations.mask_folder import mask_files, mask_folder
from sigmoid_vit.annotations.orientation import upright
from sigmoid_vit.annotations.source import Source, image_size, outside_tests
from sigmoid_vit.annotations.tool_source import tool_source
from sigmoid_vit.data import DataModule, Part, known_ids
from sigmoid_vit.data.cub import Cub2011
from sigmoid_vit.errors import UserError

SOURCES = ("masks", *FORMATS, "cub200", "cub200_2011", "gaze", "gaze_maps", "ink")
KEYS = "image_id is the number in images.txt of CUB-200-2011, elsewhere the image's id without suffix"


def open_source(
    name: str,
    files: Sequence[str],
    data: DataModule,
    part: Part,
    boxes: bool = False,
    sigma: float = SIGMA,
    mask_value: Sequence[str] = (),
    inverted: bool = False,
    heat: bool = False,
    by_label: bool = False,
) -> Source:
    """The maps of one of `SOURCES` for the images of a part of a data set.

    Args:
        name: "masks", a mask or heat map file per image; one of FORMATS, files of an annotation tool;
            "cub200", "cub200_2011" and "ink", the data set's own masks; "gaze", files of fixations;
            "gaze_maps", a heat map file per image.
        files: the folder of masks (none: beside the images) or of gaze maps, the tool's files or folders
            (none, for BESIDE_IMAGES: beside the images), or the files of fixations.
        boxes: read the data set's bounding boxes instead of its masks.
        sigma: standard deviation of the Gaussian around a fixation, as a share of the image's longer side.
        mask_value: the values, or names, of the object; none: see `read_mask`, and all of a tool's labels.
        inverted: what is marked is the background.
        heat: the mask files are heat maps, whose values are never label ids.
        by_label: see `tool_source`.

    Raises:
        UserError: a file or folder is missing, or is not what it should be.
    """
    paths = [Path(file).expanduser() for file in files]
    if name == "masks":
        return mask_folder(paths[0] if paths else data.root, data, part, mask_value, inverted, heat)
    if name in FORMATS:
        if not paths and (name not in BESIDE_IMAGES or data.root is None):
            raise UserError(f"--from {name} needs the files, or the folder they are in")
        labels = tuple(map(str, mask_value))
        return tool_source(name, paths or [data.root], data, part, labels, inverted, by_label)
    if name == "gaze":
        return _gaze(files, data, part, sigma)
    if name == "gaze_maps":
        return _gaze_maps(paths[0], data, part)
    if boxes:
        return Source(lambda i: box_map(part.box(i), image_size(part, i)), "the boxes of the data set")
    return Source(part.mask, "the masks that come with the data set")


def own_masks(data: DataModule, part: Part) -> Source | None:
    """The masks that come with the data set or lie beside its images; None where there are none."""
    if part.masks:
        return Source(part.mask, "the data set")
    return mask_folder(data.root, data, part) if data.masks_beside_images else None


def box_map(corners: np.ndarray | None, size: tuple[int, int]) -> np.ndarray | None:
    """A box (left, top, right, bottom) in pixels as a mask float32 [h, w] of an image of this size."""
    return None if corners is None else box(*map(float, corners))(size).astype(np.float32)


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
    unknown = _unknown(fixations, known, data)
    return Source(read, f"{', '.join(files)} ({KEYS})", list(fixations), unknown, outside=outside)


def _gaze_maps(folder: Path, data: DataModule, part: Part) -> Source:
    files, keys = mask_files(folder), _keys(data, part.ids)

    def read(i: int) -> np.ndarray | None:
        if keys[i] not in files:
            return None
        pixels = read_map(files[keys[i]][0])
        return upright(pixels, part.paths[i], source.told, part.ids[i]) if part.paths else pixels

    unknown = _unknown(files, _keys(data, known_ids(data, part)), data)
    source = Source(read, f"{folder} (<image_id>.jpg; {KEYS})", list(files), unknown)
    return source


def _unknown(names: Iterable[str], known: Iterable[str], data: DataModule) -> list[str]:
    """The names that belong to no known image, nor by their first folder to a test part."""
    known = set(known)
    return outside_tests((name for name in names if name not in known), data)


def _keys(data: DataModule, ids: Iterable[str]) -> list[str]:
    """What gaze files call these images: their numbers in CUB-200-2011, elsewhere ids without suffix."""
    if not isinstance(data, Cub2011):
        return [PurePosixPath(image_id).with_suffix("").as_posix() for image_id in ids]
    lines = (data.root / "images.txt").read_text(encoding="utf-8").splitlines()
    number = {file: key for key, file in (line.split(maxsplit=1) for line in lines if line.strip())}
    return [number[image_id.removeprefix("images/")] for image_id in ids]
