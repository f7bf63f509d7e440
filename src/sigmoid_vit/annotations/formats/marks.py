"""A mark: one shape that somebody drew on an image. And how the files of annotation tools are opened."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sigmoid_vit.annotations.formats.shapes import Draw, Size
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import as_text

NO_AREA = "shapes without an area (points, lines), left out"


@dataclass(frozen=True)
class Mark:
    """One shape on one image, as a file of an annotation tool has it."""

    names: tuple[str, ...]  # what the file calls the image: paths or file names, with or without suffix
    label: str
    draw: Draw | None  # None: it is left out
    size: Size | None  # of the image that was marked; None: the file does not say
    file: Path
    where: str  # the place in the file, for an error
    left_out: str = ""  # why there is nothing to draw


def files_of(paths: Sequence[Path], *suffixes: str) -> list[tuple[Path, Path]]:
    """The files with one of the suffixes, each with the folder that it was searched in.

    A path is a file, taken as it is, or a folder, searched with all folders in it.

    Raises:
        UserError: a path is not there, or no such file.
    """
    found = []
    for path in map(Path.expanduser, paths):
        if path.is_dir():
            there = (
                p for p in path.rglob("*") if p.suffix.lower() in suffixes and not p.name.startswith(".")
            )
            found += [(p, path) for p in sorted(there) if p.is_file()]
        elif path.is_file():
            found.append((path, path.parent))
        else:
            raise UserError(f"there is no {as_text(path)}; name the files, or the folder they are in")
    if not found:
        raise UserError(f"no {' or '.join(suffixes)} file lies in {', '.join(map(as_text, paths))}")
    return found


@contextmanager
def explained(file: Path, where: str = "") -> Iterator[None]:
    """What goes wrong inside becomes one sentence with the file and the place in it."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        place = as_text(file) + (where and f", {where}")
        raise UserError(f"{place} cannot be used ({what}); repair it or export it again") from error


def read_text(file: Path) -> str:
    """A text file; `UserError` if it cannot be read or is not UTF-8."""
    with explained(file):
        try:
            return file.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 at byte {error.start}") from None


def read_json(file: Path) -> dict | list:
    """A JSON file; `UserError` with line and column where it is damaged."""
    text = read_text(file)
    with explained(file):
        return json.loads(text)


def read_xml(file: Path) -> ElementTree.Element:
    """The root of an XML file; `UserError` with line and column where it is damaged."""
    with explained(file):
        try:
            return ElementTree.parse(file).getroot()
        except ElementTree.ParseError as error:
            raise ValueError(f"damaged XML, {error}") from None


def text_of(element: ElementTree.Element, path: str) -> str:
    """The text of an element inside another; `KeyError` if it is not there."""
    text = (element.findtext(path) or "").strip()
    if not text:
        raise KeyError(f"<{path}>")
    return text


@dataclass(frozen=True)
class CellMasks:
    """The cells of an edit as masks on the pixels of its image, for an annotation tool."""

    image_id: str
    size: Size
    pixels: dict[str, np.ndarray]  # label: bool [h, w], with at least one marked pixel
    propagated: bool  # not made by a person
    confidence: float | None = None
