"""What an open source of annotations is: a map for each image of a part, and what was found on the way."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from sigmoid_vit.data import DataModule, Part
from sigmoid_vit.data.images import upright_size


@dataclass
class Source:
    """The maps of a part's images."""

    read: Callable[[int], np.ndarray | None]  # float32 [h, w] in 0..1 over the whole of image i, None without
    where: str  # what was searched, for the sentence that nothing was found
    names: list[str] = field(default_factory=list)  # of images or their masks, as the source has them
    unknown: list[str] = field(default_factory=list)  # those that belong to no image
    among_images: list[str] = field(default_factory=list)  # maps that the data set takes for images
    outside: dict[str, int] = field(default_factory=dict)  # fixations outside their image, by image id
    label_ids: set[int] = field(default_factory=set)  # of masks of label ids read so far
    labels: dict[str, int] = field(default_factory=dict)  # how many shapes have each label
    in_empty: set[str] = field(default_factory=set)  # values or labels of masks without a marked pixel
    told: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # sentence: names it is about


def image_size(part: Part, i: int) -> tuple[int, int]:
    """Height and width of an image of a part, in pixels."""
    return tuple(part.images.shape[-2:]) if part.paths is None else upright_size(part.paths[i])


def outside_tests(names: Iterable[str], data: DataModule) -> list[str]:
    """The names that do not belong to a test part by their first folder."""
    return [name for name in names if name.split("/")[0] not in data.test_parts]
