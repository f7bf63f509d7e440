"""Files of annotation tools: what people marked on which image. One module a tool."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sigmoid_vit.annotations.formats import coco, cvat, label_studio, labelme, voc, yolo
from sigmoid_vit.annotations.formats.marks import Mark

FORMATS: dict[str, Callable[[Sequence[Path]], Iterator[Mark]]] = {
    "coco": coco.read,
    "label_studio": label_studio.read,
    "cvat": cvat.read,
    "voc": voc.read,
    "yolo": yolo.read,
    "labelme": labelme.read,
}
BESIDE_IMAGES = ("voc", "yolo", "labelme")  # a file per image, often in the folder of the images
