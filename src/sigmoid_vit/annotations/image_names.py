"""Which image of a data set another program's file means: it may know other folders, or none."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from sigmoid_vit.data import DataModule, Part, known_ids
from sigmoid_vit.data.folder import PART_NAMES
from sigmoid_vit.data.images import SUFFIXES

SEVERAL = "names that fit several images and are left out (give paths, or each image a name of its own)"
UPLOADED = re.compile(r"(^|/)[0-9a-f]{8}-(?=[^/]+$)")  # Label Studio puts it before the name of a file


class ImageNames:
    """The images of a data set by what other programs call them.

    A name is a path or a bare file name, with or without suffix. It means the image whose path agrees with
    it in most parts from the end, if that is one image, and if no folder in the name is another class or
    part of the data set.
    """

    def __init__(self, data: DataModule, part: Part) -> None:
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for image_id in known_ids(data, part):
            self._by_stem[PurePosixPath(image_id).stem].append(image_id)
        known = (image_id for found in self._by_stem.values() for image_id in found)
        self._folders = {name for image_id in known for name in _folders(image_id)}
        self._folders |= {_usual(name) for name in data.test_parts}

    def find(self, names: Iterable[str]) -> list[str]:
        """Ids of the images that these names of one image can mean: none known, the one, several in doubt."""
        found = [ids for ids in map(set, map(self._one_name, names)) if ids]
        return sorted((set.intersection(*found) or set.union(*found)) if found else ())

    def _one_name(self, name: str) -> list[str]:
        spellings = [name, name.replace("\\", "/")]
        spellings += [UPLOADED.sub(r"\1", spelling) for spelling in spellings]
        return next(filter(None, map(self._meant, spellings)), [])

    def _meant(self, name: str) -> list[str]:
        path = PurePosixPath(name)
        foreign = self._folders & _folders(name)
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
        candidates = self._by_stem.get(stem, [])
        candidates = [image_id for image_id in candidates if foreign <= _folders(image_id)]
        scores = {image_id: _agreement(path, PurePosixPath(image_id)) for image_id in candidates}
        return [image_id for image_id in candidates if scores[image_id] == max(scores.values())]


def _agreement(a: PurePosixPath, b: PurePosixPath) -> tuple[int, bool]:
    """How many folders agree, from the last one upwards, and whether the file names do in their suffix."""
    n = 0
    for one, other in zip(a.parent.parts[::-1], b.parent.parts[::-1], strict=False):
        if _usual(one) != _usual(other):
            break
        n += 1
    return n, a.suffix == b.suffix


def _folders(name: str) -> set[str]:
    return {_usual(folder) for folder in PurePosixPath(name).parent.parts}


def _usual(folder: str) -> str:
    """The usual name of the folder of a part ("val" for "valid"); any other folder as it is."""
    return next((part for part, names in PART_NAMES.items() if folder.lower() in names), folder)
