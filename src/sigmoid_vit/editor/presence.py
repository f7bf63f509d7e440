"""Who works on a store now, and which images they have open: shared by all its servers on this computer."""

import fcntl
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sigmoid_vit.errors import UserError
from sigmoid_vit.files import PRIVATE, open_to_lock, permissions

GONE = 70.0  # seconds without a word from a page; browsers let a hidden one speak once a minute


class Presence:
    """The pages that are open, in a small file beside the store; every page says so again and again.

    Where the file cannot be written, this server knows its own pages alone, and a warning says so.

    Args:
        store: its path; who may use it may use the file.
    """

    def __init__(self, store: Path) -> None:
        self.store, self.path = store, Path(f"{store}.present")
        self._own: dict[str, dict] = {}
        self._warned = False

    def announce(
        self, page: str, author: str, image: str | None, wanted: Sequence[str]
    ) -> tuple[list[dict], str | None]:
        """Say that a page is here, and keep the next image for it.

        Args:
            page: its name, one per page.
            image: the id of the image that it has open.
            wanted: ids of the images to which it may go on, best first.

        Returns:
            The other pages, as {"author", "image", "next"}, and the first of the wanted images that none of
            them has open or keeps, now kept for this page.
        """
        with self._pages() as pages:
            others = [facts for name, facts in pages.items() if name != page]
            taken = {facts[what] for facts in others for what in ("image", "next")}
            kept = next((each for each in wanted if each not in taken), None)
            pages[page] = {"author": author, "image": image, "next": kept, "seen": time.time()}
        return others, kept

    def leave(self, page: str) -> None:
        """The page is closed."""
        with self._pages() as pages:
            pages.pop(page, None)

    @contextmanager
    def _pages(self) -> Iterator[dict[str, dict]]:
        """The pages by their names, for this block alone; those of which nothing was heard are left out."""
        try:
            file = open_to_lock(self.path, permissions(self.store) | PRIVATE)
        except UserError as error:
            if not self._warned:
                print(f"warning: {error}; other servers do not see who is here", file=sys.stderr)
            self._warned = True
            yield self._own
            return
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            self._own = _living(file.read())
            yield self._own
            file.truncate(0)
            file.write(json.dumps(self._own))


def _living(text: str) -> dict[str, dict]:
    """The pages that a file names; none if it is damaged, as all will speak again."""
    try:
        pages = json.loads(text)
        return {name: facts for name, facts in pages.items() if time.time() - facts["seen"] < GONE}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
