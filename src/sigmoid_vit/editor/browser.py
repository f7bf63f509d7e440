"""The page opened in the person's browser, with the token kept from the other users of the computer."""

import html
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def has_screen() -> bool:
    """Whether a browser would open in front of the person, and not on a server reached by ssh."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    return sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())


@contextmanager
def start_page(link: str) -> Iterator[Path]:
    """A file, readable by this user only, that sends a browser on to `link`; it is removed at the end.

    A browser is started with a command line, which `ps` shows to everybody: that holds the file's path.
    """
    link = html.escape(link)
    with tempfile.TemporaryDirectory(prefix="sigmoid_vit_") as folder:  # 0700
        file = Path(folder) / "editor.html"
        file.touch(0o600)
        file.write_text(
            f'<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={link}">'
            f'<a href="{link}">The editor</a>',
            encoding="utf-8",
        )
        yield file
