"""CVAT's XML, "CVAT for images 1.1": polygons, boxes, ellipses and masks; read, and written for its import.

https://docs.cvat.ai/docs/manual/advanced/xml_format/
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sigmoid_vit.annotations.formats.marks import NO_AREA, CellMasks, Mark, explained, files_of, read_xml
from sigmoid_vit.annotations.formats.shapes import Draw, box, ellipse, image_size, polygons, run_lengths

NO_SHAPES = ("tag", "attribute")
UNDRAWN = ("polyline", "points", "skeleton", "cuboid")


def read(paths: Sequence[Path]) -> Iterator[Mark]:
    """The shapes of CVAT's XML files."""
    for file, _ in files_of(paths, ".xml"):
        root = read_xml(file)
        with explained(file):
            if root.tag != "annotations" or root.find("track") is not None:
                raise ValueError('it is not of the kind "CVAT for images 1.1", which CVAT exports too')
        for image in root.iter("image"):
            with explained(file, f"image {image.get('id')}"):
                name, size = image.attrib["name"], image_size(image.attrib["height"], image.attrib["width"])
            for number, shape in enumerate(image, 1):
                if shape.tag in NO_SHAPES:
                    continue
                where = f"image {name}, shape {number}"
                with explained(file, where):
                    draw, label = _shape(shape), shape.attrib["label"]
                yield Mark((name,), label, draw, size, file, where, "" if draw else NO_AREA)


def _shape(shape: ElementTree.Element) -> Draw | None:
    def numbers(*names: str) -> list[float]:
        return [float(shape.attrib[name]) for name in names]

    degrees = float(shape.get("rotation", 0))
    if shape.tag == "box":
        return box(*numbers("xtl", "ytl", "xbr", "ybr"), degrees)
    if shape.tag == "ellipse":
        return ellipse(*numbers("cx", "cy", "rx", "ry"), degrees)
    if shape.tag == "polygon":
        points = [point.split(",") for point in shape.attrib["points"].split(";") if point]
        return polygons([np.array(points, np.float64)]) if len(points) >= 3 else None
    if shape.tag == "mask":
        left, top, width, height = (int(shape.attrib[name]) for name in ("left", "top", "width", "height"))
        counts = [int(count) for count in shape.attrib["rle"].split(",")]
        return run_lengths(counts, image_size(height, width), "C", (top, left))
    if shape.tag in UNDRAWN:
        return None
    raise ValueError(f"<{shape.tag}> is no shape of CVAT")


def write(masks: Iterable[CellMasks], labels: Sequence[str]) -> bytes:
    """The XML file that CVAT ("Upload annotations", CVAT 1.1) takes for a task with images of these names."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    described = ElementTree.SubElement(task, "labels")
    for label in labels:
        found = ElementTree.SubElement(described, "label")
        for key, text in (("name", label), ("type", "mask"), ("attributes", "")):
            ElementTree.SubElement(found, key).text = text
    for number, one in enumerate(masks):
        height, width = one.size
        attributes = {"id": str(number), "name": one.image_id, "width": str(width), "height": str(height)}
        image = ElementTree.SubElement(root, "image", attributes)
        for label, pixels in one.pixels.items():
            source = "auto" if one.propagated else "manual"
            ElementTree.SubElement(image, "mask", {"label": label, "source": source, **_mask(pixels)})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _mask(pixels: np.ndarray) -> dict[str, str]:
    """The attributes of a mask: runs along the rows of the smallest box around it."""
    rows, columns = (np.flatnonzero(pixels.any(axis)) for axis in (1, 0))
    top, left, height, width = rows[0], columns[0], np.ptp(rows) + 1, np.ptp(columns) + 1
    flat = np.concatenate([[False], pixels[top : top + height, left : left + width].ravel()])
    runs = np.diff([0, *np.flatnonzero(flat[1:] != flat[:-1]), len(flat) - 1])
    place = {"left": left, "top": top, "width": width, "height": height}
    attributes = {"occluded": "0", "rle": ", ".join(map(str, runs.tolist()))}
    return attributes | {key: str(value) for key, value in place.items()} | {"z_order": "0"}
