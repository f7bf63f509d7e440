"""Which image files a command line means: files, folders, patterns and lists of these."""

import glob
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sigmoid_vit.data.folder import images_below
from sigmoid_vit.data.images import listed
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import as_text


def find_images(given: Sequence[str]) -> list[Path]:
    """The files that are meant, each once, in the order given; those of a folder or pattern by name.

    Args:
        given: of each one an image file, whether it is there or not; a folder, whose images are taken, also
            those in folders below; a pattern such as `photos/**/*.jpg`; or `@LIST`, a text file in UTF-8 with
            one of these in each line.

    Raises:
        UserError: a list that cannot be read, a pattern without a match, or no image at all.
    """
    files = list(dict.fromkeys(file for text in given for file in _meant(text)))
    if not files:
        raise UserError(f"there is no image in {listed(given)}; name image files or folders that hold some")
    return files


def _meant(text: str) -> Iterator[Path]:
    path = Path(text).expanduser()
    if path.is_dir():
        yield from _in_folder(path)
    elif text.startswith("@") and not path.exists():
        for line in _lines(Path(text[1:]).expanduser()):
            yield from [Path(line)] if line.startswith("@") else _meant(line)  # no list in a list
    elif glob.has_magic(text) and not path.exists():
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise UserError(f"no file matches {text}; check the pattern")
        yield from (file for match in matches if not (file := Path(match)).is_dir())
    else:
        yield path


def _in_folder(folder: Path) -> list[Path]:
    images, others = images_below(folder)
    if others:
        names = listed([as_text(path.name) for path in others], 3)
        print(f"{folder}: {len(others)} other files are not used ({names})", file=sys.stderr)
    return images


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the list {path} cannot be read ({error}); save it as text in UTF-8") from error
    return [line.strip() for line in lines if line.strip()]
