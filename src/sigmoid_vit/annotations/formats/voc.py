"""Pascal VOC's XML, a file per image: boxes. Its masks are palette PNGs, which `--from masks` reads.

http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sigmoid_vit.annotations.formats.marks import Mark, explained, files_of, read_xml, text_of
from sigmoid_vit.annotations.formats.shapes import box, image_size
from sigmoid_vit.files import as_text


def read(paths: Sequence[Path]) -> Iterator[Mark]:
    """The boxes of VOC files; their numbers are edges in pixels from 0, as CVAT and labelImg write them."""
    for file, folder in files_of(paths, ".xml"):
        root = read_xml(file)
        with explained(file):
            if root.tag != "annotation":
                raise ValueError(f"its root is <{root.tag}>, not <annotation> as in Pascal VOC")
            size = None
            if root.find("size") is not None:
                size = image_size(text_of(root, "size/height"), text_of(root, "size/width"))
            own_name = as_text(file.relative_to(folder).with_suffix(""))
            names = (own_name, root.findtext("filename") or own_name)
        for number, found in enumerate(root.iter("object"), 1):
            where = f"object {number}"
            with explained(file, where):
                label = text_of(found, "name")
                sides = ("xmin", "ymin", "xmax", "ymax")
                left, top, right, bottom = (float(text_of(found, f"bndbox/{side}")) for side in sides)
            yield Mark(names, label, box(left, top, right, bottom), size, file, where)
