"""How every picture looks, and how it is written."""

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from unicodedata import east_asian_width

from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure

from sigmoid_vit.files import write_atomically

BESIDE = 34  # columns of a text beside a row
NAME = 20  # columns of a class name in it
COLUMN, LINE = 0.068, 0.15  # inches of a column and of a line of the usual font
TITLE_COLUMNS, TITLE_LINE = 11, 0.17  # columns an inch of a title has, and inches of its lines


class Picture(NamedTuple):
    """A figure and what it shows, in numbers: a dictionary that may hold further ones and lists."""

    figure: Figure
    numbers: dict


def style():
    """A matplotlib context in which Japanese names render: IPAexGothic stands behind the usual font."""
    if "IPAexGothic" not in font_manager.get_font_names():
        # importing the package would change matplotlib's fonts for the whole process
        package = Path(find_spec("matplotlib_fontja").origin).parent
        font_manager.fontManager.addfont(package / "fonts" / "ipaexg.ttf")
    fonts = ["DejaVu Sans", "IPAexGothic"]
    return rc_context({"font.family": fonts, "font.size": 8, "text.parse_math": False})  # "$" is a character


def columns(text: str) -> int:
    """How wide a text is: a Latin character has one column, a Japanese one two."""
    return sum(1 + (east_asian_width(character) in "WF") for character in text)


def short(name: str, length: int = 28) -> str:
    """A class name in at most `length` columns."""
    if columns(name) <= length:
        return name
    while columns(name) >= length:
        name = name[:-1]
    return name + "…"


def wrapped(text: str, width: int) -> str:
    """The lines of a text in lines of at most `width` columns, broken at a space where there is one."""
    lines = []
    for line in text.splitlines():
        while columns(line) > width:
            fits = next(k for k in range(len(line), 0, -1) if columns(line[:k]) <= width)
            space = line.rfind(" ", 1, fits + 1)
            cut = space if space > 0 else fits
            lines.append(line[:cut].rstrip())
            line = line[cut:].lstrip()
        lines.append(line)
    return "\n".join(lines)


def beside(texts: Sequence[str]) -> tuple[list[str], float, float]:
    """Texts to stand left of a picture's rows: wrapped, and the width and height of the largest in inches."""
    texts = [wrapped(text, BESIDE) for text in texts]
    lines = [text.splitlines() or [""] for text in texts]
    return texts, COLUMN * max(columns(line) for text in lines for line in text), LINE * max(map(len, lines))


def headed(figure: Figure, title: str) -> None:
    """Put the title above the figure, in lines that fit its width; further lines make the figure taller."""
    width, height = figure.get_size_inches()
    title = wrapped(title, int(TITLE_COLUMNS * width))
    figure.set_size_inches(width, height + TITLE_LINE * title.count("\n"))
    figure.suptitle(title)


def rendered(figure: Figure, kind: str = "png", dpi: int = 150) -> bytes:
    """The content of a file of this kind, png or pdf. The figure keeps the layout of the first."""
    buffer = io.BytesIO()
    with style():
        if layout := figure.get_layout_engine():
            figure.set_dpi(dpi)  # a text has another width at another resolution
            for _ in range(2):  # the first one moves axes of a fixed shape from where it puts them
                layout.execute(figure)
            figure.set_layout_engine(None)  # it costs as much as the drawing
        figure.savefig(buffer, format=kind, dpi=dpi)
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write `path`.png and `path`.pdf."""
    for kind in ("png", "pdf"):
        content = rendered(figure, kind)
        write_atomically(path.with_suffix(f".{kind}"), lambda file, data=content: file.write(data))
