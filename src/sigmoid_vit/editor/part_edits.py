"""The edits of a part's images: read for the page, saved for the person, nothing overwritten in silence."""

import hashlib
import sys
import threading
from collections import Counter
from dataclasses import replace

import numpy as np

from sigmoid_vit.data import BadImage
from sigmoid_vit.editor.part_images import PartImages
from sigmoid_vit.editor.responses import Refused
from sigmoid_vit.edits.status import (
    ACCEPTED,
    SENT_BACK,
    SKIPPED,
    STATUSES,
    UNCHANGED,
    drawn,
    is_review,
    status_of,
)
from sigmoid_vit.edits.store import PROPAGATED, Conflict, EditStore, StoredEdit
from sigmoid_vit.errors import UserError


class PartEdits:
    """What the store holds of the images of one part; safe to use from any thread.

    Attributes:
        status: of each image, one of STATUSES.
        author: of each image, who drew the current edit or left the image as it is; "" for nobody.
        newest_revision: of each image, int64 [n]; 0 for none.
        seen: the newest revision of the whole store, as of the last `refresh`.

    Args:
        store: open for writing.
        grid: the model's (gh, gw).
        weights_sha256: of the weights whose attention is shown.
    """

    def __init__(
        self, store: EditStore, images: PartImages, grid: tuple[int, int], weights_sha256: str
    ) -> None:
        self.store, self.images, self.grid, self.weights_sha256 = store, images, grid, weights_sha256
        self.ids = images.part.ids
        self.status, self.author = ["todo"] * len(images), [""] * len(images)
        self.newest_revision, self.seen = np.zeros(len(images), dtype=np.int64), 0
        self._confidence: dict[int, float] = {}  # of the images with a propagated edit
        self._lock = threading.Lock()
        self.position = {image_id: i for i, image_id in enumerate(self.ids)}
        for image_id, edit in store.newest_all().items():
            self.seen = max(self.seen, edit.revision)
            if image_id in self.position:
                self._note(self.position[image_id], edit)

    def refresh(self) -> None:
        """Take over what others have saved, through whatever server or program."""
        for edit in self.store.since(self.seen):
            i = self.position.get(edit.image_id)
            if i is not None and edit.revision > self.newest_revision[i]:
                self._note(i, edit, self._is_of_image(i, edit))
            self.seen = max(self.seen, edit.revision)

    def progress(self) -> dict[str, int]:
        """How many images there are, and of each status but "todo"."""
        counts = Counter(self.status)
        return {"images": len(self.ids)} | {name: counts[name] for name in STATUSES if name != "todo"}

    def authors(self) -> list[str]:
        """Those who made the edits that are current, sorted."""
        return sorted(set(self.author) - {""})

    def check_images(self, stop: threading.Event) -> None:
        """Count edits of other images of the same name as not there; reads the files of all edited images."""
        for i in np.flatnonzero(self.newest_revision).tolist():
            if stop.is_set():
                return
            revision = self.newest_revision[i]
            try:
                _, current = self.newest_and_current(i)
            except BadImage:  # no readable file: the edit is all there is
                continue
            with self._lock:
                if current is None and self.newest_revision[i] == revision:
                    self.status[i], self.author[i] = "todo", ""
                    self._confidence.pop(i, None)

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

    def drawn(self, i: int) -> StoredEdit | None:
        """The newest revision of image i that is no review."""
        return drawn(self.history(i))

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

    def leave_unchanged(self, i: int, note: str, base: int | None, **fields) -> StoredEdit:
        """Say that the person looked and there is nothing to change: a revision without edited cells."""
        return self._save_without_cells(i, f"{UNCHANGED}: {note}" if note else UNCHANGED, base, **fields)

    def skip(self, i: int, reason: str, base: int | None, **fields) -> StoredEdit:
        """Say why the image is left as it is: a revision without edited cells."""
        return self._save_without_cells(i, SKIPPED + reason, base, **fields)

    def review(self, i: int, author: str, base: int | None, client_id: str, reason: str = "") -> StoredEdit:
        """Accept what a person drew or left as it is or, with a reason, send it back: a revision with it.

        Raises:
            Conflict: `base` is not the newest revision: there is something else to look at.
            Refused: there is no such edit, or it is the reviewer's own.
        """
        history = self.history(i)
        if repeated := [edit for edit in history if edit.client_id == client_id]:
            return repeated[0]
        mine = drawn(history)
        if mine is None or mine.deleted or mine.author == PROPAGATED or not self._is_of_image(i, mine):
            raise Refused(400, f"image {i} has no edit by a person to review")
        if mine.author == author:
            raise Refused(400, "an edit is reviewed by somebody else than its author")
        if history[-1].revision != base:
            raise Conflict(mine, history[-1])
        note = SENT_BACK + reason if reason else ACCEPTED + mine.note
        review = replace(mine, author=author, note=note, client_id=client_id)
        return self._note(i, self.store.save(review, base))

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
        if is_review(earlier):  # what it was about: only a reviewer accepts and sends back
            earlier = drawn([edit for edit in self.history(i) if edit.revision < revision]) or earlier
        if earlier.image_sha256 != self.images.sha256(i):
            raise Refused(400, f"revision {revision} was made of another image of this name")
        author = PROPAGATED if earlier.author == PROPAGATED else author
        return self._note(i, self.store.restore(self.ids[i], earlier.revision, author, base, client_id))

    def accept(self, i: int, author: str, base: int, client_id: str) -> StoredEdit:
        """Make the propagated edit that is revision `base` the author's own."""
        propagated = self.revision(i, base)
        if propagated.author != PROPAGATED or propagated.deleted:
            raise Refused(400, f"revision {base} is no propagated edit; there is nothing to accept")
        if propagated.image_sha256 != self.images.sha256(i):
            raise Refused(400, f"revision {base} was made of another image of this name")
        return self._note(i, self.store.restore(self.ids[i], base, author, base, client_id))

    def propagated(self, confidence: float) -> list[int]:
        """The images whose current edit is a propagated one of at least this confidence."""
        return [i for i, c in sorted(self._confidence.items()) if c >= confidence]

    def accept_all(self, confidence: float, through: int, author: str) -> list[StoredEdit]:
        """Make the propagated edits of at least this confidence the author's own, in one transaction.

        Args:
            through: the newest revision of the store that the person was told of; what came later is left
                alone, and so are images that somebody edits meanwhile.
        """
        edits = []
        for i in self.propagated(confidence):
            edit = self._newest(i)
            if edit.author == PROPAGATED and edit.revision <= through and self._is_of_image(i, edit):
                own = dict(author=author, confidence=None, client_id=None, base=edit.revision)
                edits.append(replace(edit, **own))
        saved = self.store.save_unless_changed(edits)
        return [self._note(self.position[edit.image_id], edit) for edit in saved]

    def _save_without_cells(self, i: int, note: str, base: int | None, **fields) -> StoredEdit:
        value, edited = np.zeros(self.grid, np.float32), np.zeros(self.grid, bool)
        return self.save(i, value, edited, base, note=note, **fields)

    def _is_of_image(self, i: int, edit: StoredEdit) -> bool:
        """Whether an edit was made of image i as its file is now; one that cannot be read is believed."""
        try:
            return edit.image_sha256 == self.images.sha256(i)
        except BadImage:
            return True

    def _newest(self, i: int) -> StoredEdit | None:
        return next(reversed(self.history(i)), None)

    def _note(self, i: int, edit: StoredEdit, is_of_image: bool = True) -> StoredEdit:
        """Keep the status up to date; a repeated save gives an old revision, which changes nothing."""
        status = status_of(edit) if is_of_image else "todo"
        who = drawn(self.history(i)) if is_review(edit) else edit
        with self._lock:
            if edit.revision > self.newest_revision[i]:
                self.newest_revision[i], self.status[i] = edit.revision, status
                self.author[i] = "" if status == "todo" or who is None else who.author
                self._confidence.pop(i, None)
                if status == "propagated":
                    self._confidence[i] = edit.confidence or 0.0
        return edit
