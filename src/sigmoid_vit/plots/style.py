"""How every picture looks, and how it is written."""

import io
import textwrap
from importlib.util import find_spec
from pathlib import Path

from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure

from sigmoid_vit.files import write_atomically


def style():
    """A matplotlib context in which Japanese names render: IPAexGothic stands behind the usual font."""
    if "IPAexGothic" not in font_manager.get_font_names():
        # importing the package would change matplotlib's fonts for the whole process
        package = Path(find_spec("matplotlib_fontja").origin).parent
        font_manager.fontManager.addfont(package / "fonts" / "ipaexg.ttf")
    fonts = ["DejaVu Sans", "IPAexGothic"]
    return rc_context({"font.family": fonts, "font.size": 8, "text.parse_math": False})  # "$" is a character


def short(name: str, length: int = 28) -> str:
    """A class name in at most `length` characters."""
    return name if len(name) <= length else name[: length - 1] + "…"


def wrapped(text: str, width: int) -> str:
    """The lines of a text in lines of at most `width` characters."""
    return "\n".join(textwrap.fill(line, width) for line in text.splitlines())


def save(figure: Figure, path: Path) -> None:
    """Write `path`.png and `path`.pdf."""
    with style():
        for suffix in (".png", ".pdf"):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix[1:], dpi=150)
            write_atomically(path.with_suffix(suffix), lambda file, data=buffer: file.write(data.getvalue()))
