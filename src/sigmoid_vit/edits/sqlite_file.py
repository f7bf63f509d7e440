"""The SQLite file under the edit store: made, identified, checked, and explained."""

import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_atomically

APPLICATION_ID = int.from_bytes(b"SViT")  # tells in the file's header whose SQLite file it is
SCHEMA_VERSION = 1
WAIT_SECONDS = 30  # how long a save waits for readers and other writers to finish
SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE edit (
    revision INTEGER PRIMARY KEY,
    image_id TEXT NOT NULL, image_sha256 TEXT NOT NULL,
    num_heads INTEGER, gh INTEGER NOT NULL, gw INTEGER NOT NULL,  -- num_heads NULL: one map for all heads
    value BLOB NOT NULL,   -- float32, little endian, [gh, gw] or [num_heads, gh, gw]
    edited BLOB NOT NULL,  -- one bit per cell, the first in the highest bit of the first byte
    layers TEXT NOT NULL, heads TEXT NOT NULL, queries TEXT NOT NULL,  -- layers and heads in JSON
    author TEXT NOT NULL, note TEXT NOT NULL, weights_sha256 TEXT NOT NULL, confidence REAL,
    client_id TEXT NOT NULL UNIQUE,
    base INTEGER,          -- the image's revision before this one
    created TEXT NOT NULL, -- UTC, ISO 8601
    deleted INTEGER NOT NULL,
    digest TEXT NOT NULL   -- SHA-256 over all other columns
);
CREATE INDEX edit_of_image ON edit (image_id, revision);
CREATE TRIGGER no_update BEFORE UPDATE ON edit
BEGIN SELECT RAISE(ABORT, 'a revision is never changed; add another'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON edit
BEGIN SELECT RAISE(ABORT, 'a revision is never removed; add one that says deleted'); END;
CREATE TRIGGER no_replace BEFORE INSERT ON edit
WHEN EXISTS (SELECT 1 FROM edit WHERE revision >= NEW.revision)
  OR EXISTS (SELECT 1 FROM edit WHERE client_id = NEW.client_id)
  OR NEW.base IS NOT (SELECT max(revision) FROM edit WHERE image_id = NEW.image_id)
BEGIN SELECT RAISE(ABORT, 'a revision comes after all others, on top of the newest of its image'); END;
"""


class StoreMoved(UserError):
    """The file of an open store is no longer at its path: what was to be saved is not there."""


def open_database(path: Path, readonly: bool) -> sqlite3.Connection:
    if not path.exists():
        if readonly:
            raise UserError(f"{path} does not exist; check the path")
        _create(path)
    had_log = Path(f"{path}-wal").exists()  # opening makes one
    _identify(path)
    db = _checked_reader(path)
    if not had_log:
        _tell_of_missing_log(path, db)
    if readonly:
        return db
    db.close()
    db = _connect(path, "rw")
    # not WAL: every acknowledged revision is in the file itself, and network file systems can do it, too
    db.execute("PRAGMA journal_mode = TRUNCATE")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA fullfsync = ON")  # on macOS, through the disk's own cache as well
    return db


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    options = {"timeout": WAIT_SECONDS, "isolation_level": None, "check_same_thread": False}
    db = sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, **options)
    db.row_factory = sqlite3.Row
    return db


def _empty() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:")
    db.executescript(SCHEMA)
    return db


def _create(path: Path) -> None:
    """Put an empty store in place, in one step."""
    for log in (Path(f"{path}-wal"), Path(f"{path}-journal")):
        if log.exists() and log.stat().st_size:
            raise UserError(f"{path} is missing but {log.name} is there; bring back one or move the other")
    with closing(_empty()) as db:
        write_atomically(path, lambda file: file.write(db.serialize()), private=True)


def _identify(path: Path) -> None:
    """Refuse a file whose header does not call it a store of this schema.

    `immutable=1` takes no lock and leaves no file. Python's `open` would not do: closing its file drops the
    locks that any other connection of this process holds on it.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes); remove it or restore it from a copy")
    try:
        with closing(_connect(path, "ro&immutable=1")) as db:
            application = db.execute("PRAGMA application_id").fetchone()[0]
            version = db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname == "SQLITE_CORRUPT":  # or a save is half done: the full check will tell
            return
        raise UserError(f"{path} cannot be read as an SQLite file ({error}); check the path") from error
    if application != APPLICATION_ID:
        raise UserError(f"{path} belongs to another program; choose another file for the edits")
    if version != SCHEMA_VERSION:
        raise UserError(f"{path} has schema {version}, known is {SCHEMA_VERSION}; update sigmoid_vit")


def _tell_of_missing_log(path: Path, db: sqlite3.Connection) -> None:
    """Warn of a store of an earlier version, with a write-ahead log, that was copied open without it."""
    if db.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        print(
            f"warning: {path} was copied or moved while it was open, without {path.name}-wal beside it: "
            "the newest edits may be missing; copy both files, or export the edits where they are",
            file=sys.stderr,
        )


def _checked_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, to a file whose every page, index, table and revision is sound."""
    db = _connect(path, "ro")
    try:
        if (problem := db.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(problem)
        if not _definitions(db) >= _definitions(_empty()):
            raise sqlite3.DatabaseError("its tables were changed")
        for row in db.execute("SELECT * FROM edit"):
            require_digest(dict(row))
        return db
    except sqlite3.DatabaseError as error:
        db.close()
        if getattr(error, "sqlite_errorname", "") != "SQLITE_READONLY_ROLLBACK":
            raise
    # a writer was killed during a save: whoever may write takes that save back
    with closing(_connect(path, "rw")) as db:
        db.execute("SELECT count(*) FROM edit")
    return _checked_reader(path)


def _definitions(db: sqlite3.Connection) -> set[tuple[str, str]]:
    return {tuple(row) for row in db.execute("SELECT name, sql FROM sqlite_master")}


@contextmanager
def in_place(path: Path, opened: os.stat_result) -> Iterator[None]:
    """Raise `StoreMoved` if, before or after the block, another file than the opened one is at the path."""
    _require_in_place(path, opened)
    yield
    _require_in_place(path, opened)


def _require_in_place(path: Path, opened: os.stat_result) -> None:
    with suppress(OSError):
        if os.path.samestat(os.stat(path), opened):
            return
    raise StoreMoved(
        f"{path} was moved, deleted or replaced while it was open, so nothing can be saved there; "
        "put it back, or end this program and start it again"
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What SQLite reports, in one sentence."""
    try:
        yield
    except (sqlite3.Error, UnicodeError, OverflowError, OSError) as error:
        reason = " ".join(str(error).split())
        unreadable = isinstance(error, UnicodeDecodeError) or "Could not decode" in reason
        if unreadable or type(error) is sqlite3.DatabaseError:
            raise UserError(f"{path} is damaged ({reason}); restore it from a copy") from error
        if isinstance(error, (UnicodeError, OverflowError)):
            raise UserError(f"{path} cannot hold such a text or number ({reason})") from error
        raise UserError(f"{path} cannot be used ({reason}); closed, read-only, busy or full?") from error


def require_digest(row: dict[str, object]) -> None:
    if row.pop("digest") != digest(row):
        raise sqlite3.DatabaseError(f"revision {row['revision']} differs from its checksum")


def digest(row: dict[str, object]) -> str:
    """SHA-256 over all columns but `digest`, as JSON with sorted keys; blobs as a list of one hex string."""
    plain = {name: [v.hex()] if isinstance(v, bytes) else v for name, v in row.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
