"""A folder with a mask or heat map file for each image."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from sigmoid_vit.annotations.image_names import SEVERAL, ImageNames
from sigmoid_vit.annotations.mask_files import MASK_SUFFIXES, MaskValues, read_label_map, read_map, read_mask
from sigmoid_vit.annotations.orientation import upright
from sigmoid_vit.annotations.source import Source, outside_tests
from sigmoid_vit.data import DataModule, Part, known_ids
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import as_text

OF_CLASSES = (
    "SegmentationClass"  # the masks in what CVAT and Pascal VOC write; SegmentationObject are not these
)
NAMELESS = "task-*-annotation-*"  # what Label Studio calls the PNG files of its brush
ENDING = "_mask"


def mask_folder(
    folder: Path | None,
    data: DataModule,
    part: Part,
    mask_value: Sequence[str] = (),
    inverted: bool = False,
    heat: bool = False,
) -> Source:
    """Mask files in a folder laid out like the data set, with or without its first level (train, images).

    The mask of train/crack/7.jpg is train/crack/7.png or crack/7.png, or either with _mask behind the 7. A
    file in any other folder is the mask of the one image of its name. In the folder of the data set itself,
    where masks lie beside the images, 7.png is the mask of 7.jpg only.

    Args:
        mask_value, inverted: see `MaskValues`.
        heat: the files are heat maps, whose values are never label ids.

    Raises:
        UserError: there is no such folder, or `mask_value` has a name that no label map explains.
    """
    if folder is not None and (folder / OF_CLASSES).is_dir():
        folder = folder / OF_CLASSES
    files = mask_files(folder)
    images = {path.resolve() for p in (data.train, data.val, part) if p for path in p.paths or ()}
    among_images = {file for found in files.values() for file in found if file.resolve() in images}
    paths = [_beside(image_id, files, among_images) for image_id in part.ids]
    known = {name for image_id in known_ids(data, part) for name in _mask_names(image_id)}
    masks = [name for name in files if name.endswith(ENDING) or not among_images]
    unknown = [name for name in masks if name not in known]
    meaning = MaskValues(tuple(map(str, mask_value)), inverted, read_label_map(folder))
    source = Source(lambda i: None, f"{as_text(folder)}{_expected(files, part)}", list(files))
    if not among_images:
        unknown = _by_name_alone(unknown, files, ImageNames(data, part), part, paths, source)
    source.unknown = outside_tests(unknown, data)
    source.among_images = [as_text(path) for path in paths if path in among_images]
    source.label_ids, source.in_empty = meaning.label_ids, meaning.in_empty

    def read(i: int) -> np.ndarray | None:
        if paths[i] is None:
            return None
        pixels = read_map(paths[i]) if heat else read_mask(paths[i], meaning)
        return upright(pixels, part.paths[i], source.told, part.ids[i]) if part.paths else pixels

    meaning.told = source.told
    source.read = read
    return source


def mask_files(folder: Path | None) -> dict[str, list[Path]]:
    """All mask files below a folder by their relative path without suffix; PNG before other formats.

    Raises:
        UserError: there is no such folder.
    """
    if folder is None or not folder.is_dir():
        missing = f"there is no folder {folder}" if folder else "this data set has no folder of its own"
        raise UserError(f"{missing}; name the folder that holds a mask or heat map for each image")
    files = defaultdict(list)
    for where, _, names in os.walk(folder, followlinks=True):
        for path in map(Path(where).joinpath, sorted(names)):
            if path.suffix.lower() in MASK_SUFFIXES and not path.name.startswith("."):
                files[as_text(path.relative_to(folder).with_suffix(""))].append(path)
    for found in files.values():
        found.sort(key=lambda path: path.suffix.lower() != ".png")
    return dict(sorted(files.items()))


def _beside(image_id: str, files: dict[str, list[Path]], among_images: set[Path]) -> Path | None:
    """The mask of an image by the layout of the data set."""
    image = PurePosixPath(image_id)
    for name in _mask_names(image_id):
        for file in files.get(name, ()):
            png_of_other = file.suffix.lower() == ".png" != image.suffix.lower()
            if file not in among_images or file.stem != image.stem or png_of_other:
                return file
    return None


def _by_name_alone(
    names: list[str],
    files: dict[str, list[Path]],
    images: ImageNames,
    part: Part,
    paths: list[Path | None],
    source: Source,
) -> list[str]:
    """Give images without a mask the one file of their name; the names that belong to no image come back."""
    position, unknown, claims = {image_id: i for i, image_id in enumerate(part.ids)}, [], defaultdict(list)
    for name in names:
        found = images.find([name]) or images.find([name.removesuffix(ENDING)])
        if len(found) == 1:
            claims[found[0]].append(name)
        elif found:
            source.told[SEVERAL].add(name)
        else:
            unknown.append(name)
    for image_id, claimed in claims.items():
        i = position.get(image_id)
        if len(claimed) > 1:
            source.told["several masks of one image, left out"] |= set(claimed)
        elif i is not None and paths[i] is None:
            paths[i] = files[claimed[0]][0]
    return unknown


def _mask_names(image_id: str) -> list[str]:
    """What the mask of an image may be called, without suffix, below the folder of masks."""
    stem = PurePosixPath(image_id).with_suffix("")
    names = [stem.as_posix(), PurePosixPath(*stem.parts[1:]).as_posix()]
    return [name + ending for name in names for ending in (ENDING, "")]


def _expected(files: dict[str, list[Path]], part: Part) -> str:
    """What masks are to be called."""
    if any(PurePosixPath(name).match(NAMELESS) for name in files):
        return (
            ", where Label Studio's PNG files do not say of which image they are: export the project as JSON "
            "and import that with --from label_studio FILE"
        )
    stem = PurePosixPath(part.ids[0]).with_suffix("") if part.ids else PurePosixPath("<class>/<stem>")
    names = f"{stem}.png, {stem}{ENDING}.png or {stem.name}.png"
    return f" (expected: {names}, the folders with or without the first)"
