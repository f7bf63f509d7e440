"""labelme's JSON, a file per image: polygons, rectangles, circles and masks.

https://github.com/wkentaro/labelme
"""

import base64
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sigmoid_vit.annotations.formats.marks import NO_AREA, Mark, explained, files_of, read_json
from sigmoid_vit.annotations.formats.shapes import Draw, box, ellipse, image_size, placed, polygons
from sigmoid_vit.files import as_text


def read(paths: Sequence[Path]) -> Iterator[Mark]:
    """The shapes of labelme files; other JSON files beside them are no concern."""
    for file, folder in files_of(paths, ".json"):
        content = read_json(file)
        if not isinstance(content, dict) or "shapes" not in content:
            continue
        with explained(file):
            size = None
            if content.get("imageHeight") and content.get("imageWidth"):
                size = image_size(content["imageHeight"], content["imageWidth"])
            own_name = as_text(file.relative_to(folder).with_suffix(""))
            names = (own_name, str(content.get("imagePath") or own_name))
        for number, shape in enumerate(content["shapes"], 1):
            where = f"shape {number}"
            with explained(file, where):
                draw = _shape(shape)
                label = str(shape["label"])
            yield Mark(names, label, draw, size, file, where, "" if draw else NO_AREA)


def _shape(shape: dict) -> Draw | None:
    kind = shape.get("shape_type") or "polygon"
    points = np.array(shape["points"], np.float64).reshape(-1, 2)
    if kind in ("polygon", "oriented_rectangle"):
        return polygons([points]) if len(points) >= 3 else None
    if kind in ("rectangle", "mask"):
        left, top, right, bottom = *points.min(0), *points.max(0)
        if kind == "rectangle":
            return box(left, top, right, bottom)
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"])), formats=["PNG"]) as image:
            return placed(np.asarray(image.convert("L")) > 0, (round(top), round(left)))
    if kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return ellipse(x, y, radius, radius) if radius else None
    return None
