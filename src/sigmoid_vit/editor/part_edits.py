"""The edits of a part's images: read for the page, saved for the person, nothing overwritten in silence."""

import hashlib
import sys
import threading

import numpy as np

from sigmoid_vit.data import BadImage
from sigmoid_vit.editor.part_images import PartImages
from sigmoid_vit.editor.responses import Refused
from sigmoid_vit.edits.store import PROPAGATED, Conflict, EditStore, StoredEdit
from sigmoid_vit.errors import UserError

STATUSES = ("todo", "done", "skipped", "propagated")
SKIPPED = "skipped: "  # begins the note of a revision that says: the person left the image as it is


class PartEdits:
    """What the store holds of the images of one part; safe to use from any thread.

    Attributes:
        status: of each image, one of STATUSES: "done" and "skipped" are a person's current edit with and
            without edited cells, "propagated" is a current edit that propagation made.

    Args:
        store: open for writing, by nobody else.
        grid: the model's (gh, gw).
        weights_sha256: of the weights whose attention is shown.
    """

    def __init__(
        self, store: EditStore, images: PartImages, grid: tuple[int, int], weights_sha256: str
    ) -> None:
        self.store, self.images, self.grid, self.weights_sha256 = store, images, grid, weights_sha256
        self.ids = images.part.ids
        self.status, self._revision = ["todo"] * len(images), [0] * len(images)
        self._lock = threading.Lock()
        position = {image_id: i for i, image_id in enumerate(self.ids)}
        for image_id, edit in store.current_all().items():
            if image_id in position:
                self._note(position[image_id], edit)

    def check_images(self, stop: threading.Event) -> None:
        """Count edits of other images of the same name as not there; reads the files of all edited images."""
        for i in np.flatnonzero(self._revision).tolist():
            if stop.is_set():
                return
            revision = self._revision[i]
            try:
                _, current = self.newest_and_current(i)
            except BadImage:  # no readable file: the edit is all there is
                continue
            with self._lock:
                if current is None and self._revision[i] == revision:
                    self.status[i] = "todo"

    def newest_and_current(self, i: int) -> tuple[StoredEdit | None, StoredEdit | None]:
        """The newest revision of image i and its current edit.

        A deleted edit, and one that was made of a file with another SHA-256, is no current edit.
        """
        newest = self._newest(i)
        is_current = newest and not newest.deleted and newest.image_sha256 == self.images.sha256(i)
        return newest, newest if is_current else None

    def history(self, i: int) -> list[StoredEdit]:
        """All revisions of image i, oldest first; a name that is no valid text is in no store."""
        image_id = self.ids[i]
        return [] if any(0xD800 <= ord(c) < 0xE000 for c in image_id) else self.store.history(image_id)

    def revision(self, i: int, revision: int) -> StoredEdit:
        """One revision of image i; raises `Refused` (404)."""
        for edit in self.history(i):
            if edit.revision == revision:
                return edit
        raise Refused(404, f"image {i} has no revision {revision}")

    def save(self, i: int, value: np.ndarray, edited: np.ndarray, base: int | None, **fields) -> StoredEdit:
        """Add a revision; `fields` are those of `StoredEdit`: author, client_id, note, scope.

        Raises:
            Conflict: `base` is not the newest revision of the image (None: it has no current edit).
        """
        image, weights = self.images.sha256(i), self.weights_sha256
        edit = StoredEdit(self.ids[i], image, value, edited, weights_sha256=weights, **fields)
        return self._note(i, self.store.save(edit, base))

    def skip(self, i: int, reason: str, base: int | None, **fields) -> StoredEdit:
        """Say that the image needs no edit, or cannot have one: a revision without edited cells."""
        value, edited = np.zeros(self.grid, np.float32), np.zeros(self.grid, bool)
        return self.save(i, value, edited, base, note=SKIPPED + reason, **fields)

    def apply(
        self, source: int, revision: int, targets: list[tuple[int, int | None]], author: str, client_id: str
    ) -> tuple[list[dict], list[dict]]:
        """Save one edit, a revision of image `source`, on other images.

        Args:
            targets: number and `base` of each image, see `save`.
            client_id: of the whole; the same one again saves nothing twice.

        Returns:
            {"k", "revision", "status"} of the images where it was saved, and of the others {"k", "author"},
            who has saved or taken back an edit meanwhile, None where the file cannot be read.

        Raises:
            Refused: the revision has no edited cells.
        """
        edit, saved, refused = self.revision(source, revision), [], []
        if edit.deleted or not edit.edited.any():
            raise Refused(400, f"revision {revision} has no edited cells; there is nothing to apply")
        note = f"the edit of {self.ids[source]}, revision {revision}"
        scope = {name: getattr(edit, name) for name in ("layers", "heads", "queries")}
        for i, base in targets:
            name = hashlib.sha256(f"{client_id} {i}".encode()).hexdigest()[:32]
            fields = {"author": author, "client_id": name, "note": note} | scope
            try:
                stored = self.save(i, edit.value, edit.edited, base, **fields)
            except Conflict as conflict:
                refused.append({"k": i, "author": conflict.theirs.author if conflict.theirs else ""})
            except BadImage as error:
                print(f"warning: {error}", file=sys.stderr)
                refused.append({"k": i, "author": None})
            else:
                saved.append({"k": i, "revision": stored.revision, "status": self.status[i]})
        return saved, refused

    def delete(self, i: int, author: str, base: int | None, client_id: str) -> StoredEdit:
        """Take the current edit away; it stays in the history. Raises `Conflict`."""
        try:
            return self._note(i, self.store.delete(self.ids[i], author, base, client_id))
        except Conflict:
            raise
        except UserError:
            newest = self._newest(i)
            if not (newest and newest.deleted):
                raise
            if newest.revision != base:  # somebody else deleted it
                raise Conflict(newest, newest) from None
            return newest  # and the person knows

    def restore(self, i: int, revision: int, author: str, base: int | None, client_id: str) -> StoredEdit:
        """Make an earlier revision the newest again; a propagated edit stays a propagated one."""
        earlier = self.revision(i, revision)
        if earlier.image_sha256 != self.images.sha256(i):
            raise Refused(400, f"revision {revision} was made of another image of this name")
        author = PROPAGATED if earlier.author == PROPAGATED else author
        return self._note(i, self.store.restore(self.ids[i], revision, author, base, client_id))

    def accept(self, i: int, author: str, base: int, client_id: str) -> StoredEdit:
        """Make the propagated edit that is revision `base` the author's own."""
        propagated = self.revision(i, base)
        if propagated.author != PROPAGATED or propagated.deleted:
            raise Refused(400, f"revision {base} is no propagated edit; there is nothing to accept")
        if propagated.image_sha256 != self.images.sha256(i):
            raise Refused(400, f"revision {base} was made of another image of this name")
        return self._note(i, self.store.restore(self.ids[i], base, author, base, client_id))

    def _newest(self, i: int) -> StoredEdit | None:
        return next(reversed(self.history(i)), None)

    def _note(self, i: int, edit: StoredEdit) -> StoredEdit:
        """Keep the status up to date; a repeated save gives an old revision, which changes nothing."""
        with self._lock:
            if edit.revision > self._revision[i]:
                self._revision[i], self.status[i] = edit.revision, _status(edit)
        return edit


def _status(edit: StoredEdit) -> str:
    if edit.deleted:
        return "todo"
    if edit.author == PROPAGATED:
        return "propagated"
    return "done" if edit.edited.any() else "skipped"
