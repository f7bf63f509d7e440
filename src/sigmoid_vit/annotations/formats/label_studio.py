"""Label Studio's JSON (full or JSON-MIN): brush, polygon, rectangle, ellipse; read and written.

https://labelstud.io/guide/export, https://labelstud.io/guide/predictions
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import numpy as np

from sigmoid_vit.annotations.formats import brush
from sigmoid_vit.annotations.formats.marks import NO_AREA, CellMasks, Mark, explained, files_of, read_json
from sigmoid_vit.annotations.formats.shapes import Draw, Size, box, ellipse, image_size, placed, polygons
from sigmoid_vit.data.images import SUFFIXES

PREDICTED = "predictions in Label Studio that nobody has accepted, left out"
OLDER = "annotations of which their task has a newer one, left out"
LOCAL = "/data/local-files/?d="  # how Label Studio calls a file in its local storage
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="tag" toName="image">
{labels}
  </BrushLabels>
</View>
"""


def read(paths: Sequence[Path]) -> Iterator[Mark]:
    """The regions of Label Studio's files; of several annotations of a task, those of the newest."""
    for file, _ in files_of(paths, ".json"):
        tasks = read_json(file)
        with explained(file):
            if not (isinstance(tasks, list) and all(isinstance(task, dict) for task in tasks)):
                raise ValueError("it is no list of tasks, as Label Studio exports them as JSON or JSON-MIN")
        for number, task in enumerate(tasks, 1):
            yield from _task(file, f"task {task.get('id', number)}", task)


def _task(file: Path, where: str, task: dict) -> Iterator[Mark]:
    with explained(file, where):
        data = task.get("data", task)
        names = tuple(filter(None, map(_path, data.values()))) + tuple(
            filter(None, [task.get("file_upload")])
        )
        if not names:
            raise ValueError("it names no image")
        results, left_out = _results(task)
        for reason in left_out:
            yield Mark(names, "", None, None, file, where, reason)
    for number, result in enumerate(results, 1):
        place = f"{where}, region {number}"
        with explained(file, place):
            if result.get("image_rotation"):
                raise ValueError(
                    "the image was turned in Label Studio; turn the file itself and mark it anew"
                )
            value = result.get("value", result)
            if "original_width" not in result or not isinstance(value, dict):
                continue  # a choice or a text about the whole image
            size = image_size(result["original_height"], result["original_width"])
            draw = _shape(value, size)
            labels = next((x for key, x in value.items() if key.endswith("labels")), None) or [""]
        for label in labels:
            yield Mark(names, str(label), draw, size, file, place, "" if draw else NO_AREA)


def _results(task: dict) -> tuple[list[dict], list[str]]:
    """The regions of a task, and why others are left out."""
    if "data" not in task:  # JSON-MIN: a list of regions under the name of each tag
        lists = [x for x in task.values() if isinstance(x, list)]
        return [region for regions in lists for region in regions if isinstance(region, dict)], []
    annotations = [x for x in task.get("annotations", ()) if not x.get("was_cancelled")]
    annotations.sort(key=lambda x: (str(x.get("updated_at") or ""), x.get("id") or 0))
    if annotations:
        return annotations[-1]["result"], [OLDER] * (len(annotations) > 1)
    return [], [PREDICTED] * any(x.get("result") for x in task.get("predictions", ()) if isinstance(x, dict))


def _path(value: object) -> str | None:
    """The path of an image in an address as Label Studio has it; None for what is no image."""
    if not isinstance(value, str):
        return None
    address = urlsplit(value)
    path = unquote(address.path) if address.scheme or value.startswith("/") else value
    path = parse_qs(address.query).get("d", [path])[0]
    return path if Path(path).suffix.lower() in SUFFIXES else None


def _shape(value: dict, size: Size) -> Draw | None:
    """The shape of a region, whose numbers are percents of the image."""
    height, width = size[0] / 100, size[1] / 100
    if value.get("rle"):
        return lambda image: placed(brush.decode(value["rle"], size))(image)
    if len(value.get("points", ())) >= 3:
        return polygons([np.array(value["points"], np.float64) * (width, height)])
    degrees = float(value.get("rotation") or 0)
    if "radiusX" in value:
        x, y, across, down = (float(value[key]) for key in ("x", "y", "radiusX", "radiusY"))
        return ellipse(x * width, y * height, across * width, down * height, degrees)
    if "height" in value and "x" in value:
        x, y, across, down = (float(value[key]) for key in ("x", "y", "width", "height"))
        return box(x * width, y * height, (x + across) * width, (y + down) * height, degrees, corner=True)
    return None


def write(masks: Iterable[CellMasks], image_url: str = LOCAL) -> bytes:
    """The tasks that Label Studio imports: edits of people as annotations, propagated ones as predictions.

    Args:
        image_url: what stands before an image's path, so that Label Studio finds the file.
    """
    tasks = []
    for one in masks:
        answer = {"result": [_region(label, pixels) for label, pixels in one.pixels.items()]}
        if one.propagated:
            answer |= {"model_version": "propagated", "score": one.confidence}
        kind = "predictions" if one.propagated else "annotations"
        tasks.append({"data": {"image": image_url + quote(one.image_id)}, kind: [answer]})
    return json.dumps(tasks, ensure_ascii=False).encode(errors="backslashreplace")


def config(labels: Sequence[str]) -> str:
    """The labelling interface that these tasks need."""
    return CONFIG.format(labels="\n".join(f'    <Label value="{label}"/>' for label in labels))


def _region(label: str, pixels: np.ndarray) -> dict:
    height, width = pixels.shape
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    value = {"format": "rle", "rle": brush.encode(pixels), "brushlabels": [label]}
    place = {"id": label, "from_name": "tag", "to_name": "image", "type": "brushlabels"}
    return place | size | {"value": value}
