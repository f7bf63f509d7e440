"""COCO's JSON: polygons, run lengths (compressed or not) or, without these, boxes.

https://cocodataset.org/#format-data
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from sigmoid_vit.annotations.formats.marks import NO_AREA, Mark, explained, files_of, read_json
from sigmoid_vit.annotations.formats.shapes import Draw, Size, box, image_size, placed, polygons, run_lengths


def read(paths: Sequence[Path]) -> Iterator[Mark]:
    """The annotations of COCO files."""
    for file, _ in files_of(paths, ".json"):
        content = read_json(file)
        with explained(file, "images and categories"):
            images = {image["id"]: image for image in content["images"]}
            labels = {category["id"]: str(category["name"]) for category in content.get("categories", ())}
            annotations = content["annotations"]
        for number, annotation in enumerate(annotations, 1):
            where = f"annotation {number}"
            with explained(file, where):
                image_id = annotation["image_id"]
                if image_id not in images:
                    raise ValueError(f"it is of image {image_id}, which the file does not list")
                image = images[image_id]
                label = labels.get(annotation.get("category_id"), str(annotation.get("category_id", "")))
                size = _size(image, annotation)
                draw = _shape(annotation, size)
                names = (str(image["file_name"]),)
            yield Mark(names, label, draw, size, file, where, "" if draw else NO_AREA)


def _size(image: dict, annotation: dict) -> Size | None:
    """The size of the image; that of a mask in run lengths must be the same."""
    stated = (
        image_size(image["height"], image["width"]) if image.get("height") and image.get("width") else None
    )
    coded = annotation.get("segmentation")
    coded = image_size(*coded["size"]) if isinstance(coded, dict) else None
    if stated and coded and stated != coded:
        raise ValueError(f"its mask is {coded[1]} x {coded[0]}, its image {stated[1]} x {stated[0]}")
    return stated or coded


def _shape(annotation: dict, size: Size | None) -> Draw | None:
    shape = annotation.get("segmentation")
    if isinstance(shape, dict):
        counts = shape["counts"]
        return _compressed(counts, size) if isinstance(counts, str) else run_lengths(counts, size, "F")
    rings = [np.array(ring, np.float64) for ring in shape or ()]
    if any(ring.ndim != 1 or len(ring) % 2 for ring in rings):
        raise ValueError("a polygon is a list of x, y, x, y, ...")
    rings = [ring for ring in rings if len(ring) >= 6]
    if rings:
        return polygons(rings)
    left, top, width, height = map(float, annotation.get("bbox") or (0, 0, 0, 0))
    return box(left, top, left + width, top + height) if width > 0 and height > 0 else None


def _compressed(counts: str, size: Size) -> Draw:
    return lambda image: placed(coco_mask.decode({"size": list(size), "counts": counts}) > 0)(image)
