"""The marks of annotation tools as the maps of a part's images."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from sigmoid_vit.annotations.cells import ERASE, KEEP
from sigmoid_vit.annotations.formats import FORMATS
from sigmoid_vit.annotations.formats.marks import Mark
from sigmoid_vit.annotations.image_names import SEVERAL, ImageNames
from sigmoid_vit.annotations.orientation import upright
from sigmoid_vit.annotations.source import Source, image_size, outside_tests
from sigmoid_vit.data import BadImage, DataModule, Part
from sigmoid_vit.data.images import listed
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import as_text


def tool_source(
    name: str,
    files: Sequence[Path],
    data: DataModule,
    part: Part,
    labels: Sequence[str] = (),
    inverted: bool = False,
    by_label: bool = False,
) -> Source:
    """The maps of the images of a part from files of one of FORMATS: 1 in every shape, 0 elsewhere.

    Args:
        labels: those that are the object; none: all.
        inverted: the shapes mark the background.
        by_label: 1 in shapes labelled KEEP, -1 in those labelled ERASE; of shapes that overlap, the last.

    Raises:
        UserError: a file is missing or damaged, or has no shape, or none of the labels.
    """
    where = listed([as_text(file) for file in files], 3)
    marks = list(FORMATS[name](files))
    source = Source(lambda i: None, where)
    by_image = _by_image(marks, ImageNames(data, part), data, source)
    source.labels = Counter(mark.label for image_id in part.ids for mark in by_image.get(image_id, ()))
    there = {mark.label for mark in marks if mark.draw}
    missing = [label for label in labels if label not in there]
    if missing:
        names = listed(sorted(there)) or "none"
        raise UserError(f"--mask_value {listed(missing)} is no label in {where}; its labels: {names}")
    values = dict.fromkeys(labels or there, 1)
    if by_label:
        values = {KEEP: 1, ERASE: -1}
        if not there & values.keys():
            names = listed(sorted(there)) or "none"
            raise UserError(f"no shape in {where} has the label {KEEP} or {ERASE}; its labels: {names}")
    source.read = _reader(by_image, part, values, inverted, source)
    return source


def _by_image(
    marks: Iterable[Mark], names: ImageNames, data: DataModule, source: Source
) -> dict[str, list[Mark]]:
    """The marks of each known image; what becomes of the others is told in the source."""
    meant: dict[tuple[str, ...], list[str]] = {}
    by_image, unknown = defaultdict(list), []
    for mark in marks:
        if mark.names not in meant:
            meant[mark.names] = names.find(mark.names)
            source.names.append(mark.names[0])
        found = meant[mark.names]
        if mark.left_out:
            source.told[mark.left_out].add(mark.names[0])
        elif len(found) == 1:
            by_image[found[0]].append(mark)
        elif found:
            source.told[SEVERAL].add(mark.names[0])
        elif mark.names[0] not in unknown:
            unknown.append(mark.names[0])
    source.unknown = outside_tests(unknown, data)
    return by_image


def _reader(
    by_image: dict[str, list[Mark]], part: Part, values: dict[str, int], inverted: bool, source: Source
) -> Callable[[int], np.ndarray | None]:
    def read(i: int) -> np.ndarray | None:
        image_id = part.ids[i]
        marks = by_image.get(image_id)
        if not marks:
            return None
        stated = {mark.size for mark in marks if mark.size}
        if len(stated) > 1:
            sizes = " and ".join(f"{w} x {h}" for h, w in sorted(stated))
            raise BadImage(marks[0].file, f"{image_id} has marks for images of {sizes}")
        size = next(iter(stated), None) or image_size(part, i)
        chosen = [mark for mark in marks if mark.label in values]
        pixels = np.zeros(size, np.float32)
        for mark in chosen:
            pixels[_drawn(mark, size)] = values[mark.label]
        if not chosen:
            source.in_empty |= {mark.label for mark in marks}
        if inverted:
            pixels = 1 - pixels
        return (
            upright(pixels, part.paths[i], source.told, image_id, sized=bool(stated))
            if part.paths
            else pixels
        )

    return read


def _drawn(mark: Mark, size: tuple[int, int]) -> np.ndarray:
    try:
        return mark.draw(size)
    except (ValueError, LookupError, TypeError) as error:
        raise BadImage(mark.file, f"{mark.where}: {error}") from error
