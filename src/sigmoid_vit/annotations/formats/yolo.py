"""YOLO's text files, a file per image: boxes and polygons as shares of the image's width and height.

https://docs.ultralytics.com/datasets/segment/
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import yaml

from sigmoid_vit.annotations.formats.marks import Mark, explained, files_of, read_text
from sigmoid_vit.annotations.formats.shapes import Draw, Size, box, polygons
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import as_text

NAMES = ("classes.txt", "obj.names")  # a class name a line; else `names` of a .yaml file


def read(paths: Sequence[Path]) -> Iterator[Mark]:
    """The lines of YOLO's label files; a text file no line of which begins with a number is none of these."""
    files = files_of(paths, ".txt")
    labels = _class_names({folder for _, folder in files})
    for file, folder in files:
        if file.name in NAMES:
            continue
        lines = [line.split() for line in read_text(file).splitlines()]
        if not any(words[0].isdecimal() for words in lines if words):
            continue
        name = as_text(file.relative_to(folder).with_suffix(""))
        for number, words in enumerate(lines, 1):
            if words:
                where = f"line {number}"
                with explained(file, where):
                    draw = _shape([float(word) for word in words[1:]])
                    label = labels.get(int(words[0]), words[0])
                yield Mark((name,), label, draw, None, file, where)


def _shape(numbers: list[float]) -> Draw:
    if len(numbers) == 4:
        x, y, width, height = numbers
        corners = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2]).reshape(2, 2)
    elif len(numbers) >= 6 and len(numbers) % 2 == 0:
        corners = np.array(numbers).reshape(-1, 2)
    else:
        raise ValueError(
            f"{len(numbers)} numbers behind the class; a box has 4, a polygon x and y 3 times or more"
        )
    if not (np.abs(corners - 0.5) <= 0.51).all():
        raise ValueError("a number outside 0..1; they are shares of the image's width and height")

    def draw(size: Size) -> np.ndarray:
        pixels = corners * size[::-1]
        return (box(*pixels.ravel()) if len(numbers) == 4 else polygons([pixels]))(size)

    return draw


def _class_names(folders: set[Path]) -> dict[int, str]:
    """Class names by number, from the first file in or just above the folders that has them.

    Without one, the numbers are the names.
    """
    files = [
        p
        for folder in sorted(folders)
        for p in (*sorted(folder.rglob("*")), *sorted(folder.parent.iterdir()))
    ]
    for file in files:
        if file.is_file() and (file.name in NAMES or file.suffix in (".yaml", ".yml")):
            text = read_text(file)
            names = text.split("\n") if file.name in NAMES else _of_yaml(file, text)
            if names:
                return dict(enumerate(map(str.strip, names))) if isinstance(names, list) else names
    return {}


def _of_yaml(file: Path, text: str) -> list[str] | dict[int, str] | None:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{as_text(file)} is damaged ({' '.join(str(error).split())}); repair it") from error
    names = content.get("names") if isinstance(content, dict) else None
    with explained(file, "names"):
        if isinstance(names, dict):
            return {int(number): str(name) for number, name in names.items()}
        return [str(name) for name in names] if isinstance(names, list) else None
