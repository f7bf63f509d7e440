"""The edits people made, in one SQLite file to which revisions are only ever added."""

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sigmoid_vit.edits.sqlite_file import explained, in_place, open_database
from sigmoid_vit.edits.stored_edit import PROPAGATED, StoredEdit, from_row, signed, to_row, validated
from sigmoid_vit.edits.writers import Writers
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_atomically

__all__ = ["ANY", "PROPAGATED", "Conflict", "EditStore", "StoredEdit"]

ANY = object()  # as `base`: save on top of whatever is there


class Conflict(UserError):
    """The image's newest revision is not the one the author started from; nothing was stored.

    Attributes:
        mine: the edit that was to be saved.
        theirs: the newest revision of its image (it may say deleted), or None if there is none.
    """

    def __init__(self, mine: StoredEdit, theirs: StoredEdit | None) -> None:
        newest = f"revision {theirs.revision} by {theirs.author}" if theirs else "none"
        super().__init__(
            f"the edit of {mine.image_id} was not saved: it does not start from the newest revision "
            f"({newest}); compare the two and save again"
        )
        self.mine, self.theirs = mine, theirs


class EditStore:
    """Every revision of every edit, in one SQLite file; an image's current edit is its newest revision.

    Undo, restore and delete add revisions too; none is ever changed or removed. Any number of processes of
    one computer write (see `writers`), from any number of threads, and others read at any time; a save is
    checked and written in one transaction. What `save` returned survives a kill and a power cut; every
    revision carries its SHA-256, which is compared when the store is opened and when it is read.

    Args:
        path: the file; made, with its folder, unless `readonly`.
        readonly: never write; works while another process writes.
        owner: told to whoever is refused, such as a server's address (without its token).

    Raises:
        UserError: another computer writes; the file is missing (readonly), damaged, of a newer schema or of
            another program; the folder does not take it. What is there stays as it is.
    """

    def __init__(self, path: str | Path = "edits.sqlite", readonly: bool = False, owner: str = "") -> None:
        self.path, self.readonly = Path(os.path.realpath(path)), readonly
        self._lock = threading.RLock()  # the threads share one connection
        self._writers = None if readonly else Writers(self.path, owner)
        try:
            with explained(self.path):
                self._db = open_database(self.path, readonly)
                self._opened = os.stat(self.path)
        except BaseException:
            self._leave()
            raise
        if self._writers and self._writers.first:
            self._writers.let_others_join()

    def __enter__(self) -> "EditStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Use it no more. Unless another process has it open, it is then one plain file, safe to copy."""
        with self._lock:
            if not self.readonly:
                with suppress(sqlite3.Error):  # a process is reading: the log stays beside the file
                    self._db.execute("PRAGMA busy_timeout = 0")
                    self._db.execute("PRAGMA journal_mode = DELETE")
            self._db.close()
            self._leave()

    def save(self, edit: StoredEdit, base: int | None = ANY) -> StoredEdit:
        """Add a revision; when this returns, it is on the disk.

        Args:
            edit: what to store; its `revision`, `base`, `created` and `deleted` are ignored.
            base: the revision the author started from, None for an image without an edit; if not given, the
                edit goes on top of whatever is there.

        Returns:
            The edit as stored; for a `client_id` that was saved before, its first revision.

        Raises:
            Conflict: `base` is not the image's newest revision, or it is None and there is a current edit.
            UserError: a rule of `AttentionEdit` or the type of a field is broken, the `client_id` belongs to
                another edit, the store is readonly, the disk is full. Nothing is stored.
            StoreMoved: the file is not at `path` any more; saved again once it is back, it is one revision.
        """
        edit = validated(replace(edit, created=None, deleted=False))
        with self._transaction():
            return self._append(edit, base)

    def save_many(self, edits: Iterable[StoredEdit]) -> list[StoredEdit]:
        """Save all or none, in one transaction, each on top of its image's newest revision.

        An edit with a `client_id` keeps `created` and `deleted`, for imports. The rest is as in `save`.
        """
        edits = [edit if edit.client_id else replace(edit, created=None, deleted=False) for edit in edits]
        edits = [validated(edit) for edit in edits]
        with self._transaction():
            return [self._append(edit, ANY) for edit in edits]

    def save_unless_changed(self, edits: Iterable[StoredEdit]) -> list[StoredEdit]:
        """Save those whose `base` is still the newest revision of their image (None: it has none).

        The images of the others were changed meanwhile, and are left alone. The rest is as in `save_many`.
        """
        edits = [validated(edit) for edit in edits]
        saved = []
        with self._transaction():
            for edit in edits:
                newest = self._newest(edit.image_id)
                if edit.base == (newest and newest.revision):
                    saved.append(self._append(edit, ANY))
        return saved

    def delete(
        self, image_id: str, author: str, base: int | None = ANY, client_id: str | None = None
    ) -> StoredEdit:
        """Add a revision that says deleted, with the content it takes away. The rest is as in `save`."""
        with self._transaction():
            if first := self._saved_before(client_id, image_id):
                return first
            newest = self._newest(image_id)
            if newest is None or newest.deleted:
                raise UserError(f"{image_id} has no edit to delete")
            return self._append(signed(newest, author, client_id, deleted=True), base)

    def restore(
        self, image_id: str, revision: int, author: str, base: int | None = ANY, client_id: str | None = None
    ) -> StoredEdit:
        """Add a revision with the content of an earlier one. The rest is as in `save`.

        Undo is `restore(image_id, newest.base, author)`, or `delete` where that base is None.
        """
        with self._transaction():
            if first := self._saved_before(client_id, image_id):
                return first
            found = self._select("WHERE image_id = ? AND revision = ?", image_id, revision)
            if not found:
                raise UserError(f"{image_id} has no revision {revision}")
            return self._append(signed(found[0], author, client_id, found[0].deleted), base)

    def current(self, image_id: str) -> StoredEdit | None:
        """The image's newest revision; None if there is none or it says deleted."""
        newest = self._newest(image_id)
        return None if newest is None or newest.deleted else newest

    def current_all(self, author: str | None = None) -> dict[str, StoredEdit]:
        """The current edit of every image that has one (and is by `author`, if given), sorted by image id."""
        edits = self.newest_all().items()
        return {i: edit for i, edit in edits if not edit.deleted and author in (None, edit.author)}

    def newest_all(self) -> dict[str, StoredEdit]:
        """The newest revision of every image that has one, deletions among them, sorted by image id."""
        newest = "WHERE revision IN (SELECT max(revision) FROM edit GROUP BY image_id) ORDER BY image_id"
        return {edit.image_id: edit for edit in self._select(newest)}

    def history(self, image_id: str | None = None) -> list[StoredEdit]:
        """All revisions of an image (None: of all images), oldest first, deletions among them."""
        if image_id is None:
            return self._select("ORDER BY revision")
        return self._select("WHERE image_id = ? ORDER BY revision", image_id)

    def since(self, revision: int) -> list[StoredEdit]:
        """The revisions after this one, of all images and whoever saved them, oldest first."""
        return self._select("WHERE revision > ? ORDER BY revision", revision)

    def backup(self, path: str | Path) -> None:
        """Copy the store to the new file `path`, also while it is in use, when `cp` would not be safe.

        Raises:
            UserError: the file exists, or its folder does not take it.
        """
        if Path(path).exists():
            raise UserError(f"{path} exists and is never overwritten; give the copy another name")
        with self._lock, explained(self.path):
            write_atomically(path, lambda file: self._db.execute("VACUUM INTO ?", (file.name,)), private=True)

    def _append(self, edit: StoredEdit, base: int | None) -> StoredEdit:
        if first := self._saved_before(edit.client_id, edit.image_id):
            if _content(first) != _content(edit):
                raise UserError(f"client id {edit.client_id} was used for another edit; make one per save")
            return first
        newest = self._newest(edit.image_id)
        _require_base(edit, base, newest)
        edit = replace(
            edit,
            client_id=edit.client_id or secrets.token_hex(16),
            revision=self._db.execute("SELECT coalesce(max(revision), 0) + 1 FROM edit").fetchone()[0],
            base=newest.revision if newest else None,
            created=edit.created or datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        row = to_row(edit)
        marks = ", ".join(f":{column}" for column in row)
        self._db.execute(f"INSERT INTO edit ({', '.join(row)}) VALUES ({marks})", row)
        return edit

    def _saved_before(self, client_id: str | None, image_id: str) -> StoredEdit | None:
        first = next(iter(self._select("WHERE client_id = ?", client_id)), None)
        if first and first.image_id != image_id:
            raise UserError(f"client id {client_id} was used for {first.image_id}; make one per save")
        return first

    def _newest(self, image_id: str) -> StoredEdit | None:
        return next(iter(self._select("WHERE image_id = ? ORDER BY revision DESC LIMIT 1", image_id)), None)

    def _select(self, rest: str, *values: object) -> list[StoredEdit]:
        with self._lock, explained(self.path):
            return [from_row(dict(row)) for row in self._db.execute(f"SELECT * FROM edit {rest}", values)]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block or nothing; left without an error, it is on the disk, in the file at the path."""
        if self.readonly:
            raise UserError(f"{self.path} was opened for reading only")
        with self._lock, explained(self.path), in_place(self.path, self._opened):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _leave(self) -> None:
        if self._writers:
            self._writers.leave()


def _require_base(mine: StoredEdit, base: int | None, newest: StoredEdit | None) -> None:
    if base is None:
        fits = newest is None or newest.deleted
    else:
        fits = base is ANY or (newest is not None and newest.revision == base)
    if not fits:
        raise Conflict(mine, newest)


def _content(edit: StoredEdit) -> StoredEdit:
    return replace(edit, revision=None, base=None, created=None)
