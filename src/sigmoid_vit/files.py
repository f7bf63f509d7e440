"""Files that are either whole or not there, whenever the process is killed."""

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import secrets
import socket
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, TextIO

from sigmoid_vit.errors import UserError

PRIVATE = 0o600  # the permissions of a file that its owner alone reads and writes
LEFTOVER_AGE = 600  # seconds since its last byte after which a temporary file counts as abandoned


def write_atomically(path: str | Path, write: Callable[[BinaryIO], None], private: bool = False) -> None:
    """Replace `path` by what `write(file)` writes, in one step that survives a kill and a power cut.

    The bytes go to a temporary file in the same folder (made if need be), reach the disk, and are then
    renamed; until that moment the old file stays as it was. A writer that was killed leaves its temporary
    file behind; a later one removes it once it has rested for LEFTOVER_AGE. A symbolic link stays, its
    target is replaced. A `private` file is PRIVATE, or keeps the permissions that somebody has given it.

    Raises:
        UserError: the folder or the disk does not take the file.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        with open(temporary, "xb", opener=_opener(permissions(target) if private else None)) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _flush_folder(target.parent)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        raise UserError(f"cannot write {path} ({error}); is the disk full or read-only?") from error
    finally:
        with contextlib.suppress(OSError):  # there is one only after a failure
            temporary.unlink()


def write_json(path: str | Path, content: dict) -> None:
    """Write a readable JSON file in one step; a path that is not UTF-8 is read again as it was."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def write_csv(path: str | Path, rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file in one step: UTF-8, with a byte-order mark where there is more in it than ASCII.

    Without the mark, Excel shows such text as garbage. `encoding="utf-8-sig"` reads both.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    content = text.getvalue()
    encoded = content.encode("ascii" if content.isascii() else "utf-8-sig")
    write_atomically(path, lambda file: file.write(encoded))


def as_text(name: str | Path) -> str:
    r"""A file's name as text, with bytes that are not UTF-8 (Shift-JIS, Latin-1) as \x88."""
    return os.fsencode(name).decode(errors="backslashreplace")


def sealed(content: dict) -> dict:
    """The content of a JSON file or line with its checksum, "crc32", behind it."""
    return {**content, "crc32": _crc32(content)}


def unsealed(content: object, always: bool) -> dict:
    """What `sealed` was given; content without a checksum is taken as it is, unless it `always` has one.

    Raises:
        ValueError: it is no dict, or not what the checksum says.
    """
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    content = dict(content)
    seal = content.pop("crc32", None)
    if seal != _crc32(content) and (always or seal is not None):
        raise ValueError("it does not agree with its checksum, crc32")
    return content


def _crc32(content: dict) -> str:
    as_read = json.loads(json.dumps(content))
    return f"{zlib.crc32(json.dumps(as_read, sort_keys=True).encode()):08x}"


def permissions(path: Path) -> int:
    """Who may read and write a file; PRIVATE where there is none."""
    try:
        return path.stat().st_mode & 0o666
    except OSError:
        return PRIVATE


def claim(path: Path, doing: str, owner: str, remedy: str, mode: int | None = None) -> TextIO:
    """The file at `path`, locked until it is closed or the process ends, and naming the owner.

    Args:
        doing: what only one process may do, for the error of the next one: "STORE is open for writing".
        owner: who does it.
        remedy: what the next one can do.
        mode: see `open_to_lock`.

    Raises:
        UserError: another process has it, or the folder does not take it.
    """
    while True:
        file = open_to_lock(path, mode)
        if not lock(file, fcntl.LOCK_EX):
            raise UserError(f"{doing} by {owner_of(file)}; {remedy}")
        if path.exists() and os.path.samestat(os.stat(path), os.fstat(file.fileno())):
            break
        file.close()  # its owner had taken it away between the two lines
    sign(file, owner)
    return file


def open_to_lock(path: Path, mode: int | None) -> TextIO:
    """A file, made if need be, that processes agree by; nothing in it is changed.

    Args:
        mode: the file's permissions, where it is this user's own; None: what the umask leaves to a new one.

    Raises:
        UserError: the folder does not take it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a+", encoding="utf-8", errors="replace", opener=_opener(mode))
    except OSError as error:
        raise UserError(f"{path} cannot be opened for writing ({error}); choose another folder") from error


def lock(file: TextIO, how: int) -> bool:
    """Lock a file, or change its lock, without waiting: for this process alone (LOCK_EX) or shared (LOCK_SH).

    Returns:
        Whether it has the lock now; another process may be in the way.

    Raises:
        UserError: the disk knows no locks.
    """
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(f"{file.name} cannot be locked ({error}); choose another folder") from error
    return True


def sign(file: TextIO, owner: str) -> None:
    """Name the process that has the lock, in place of what the file says."""
    file.truncate(0)
    file.write(f"{owner} (process {os.getpid()} on {socket.gethostname()})")
    file.flush()


def owner_of(file: TextIO) -> str:
    """Whom a file names that `sign` has signed."""
    file.seek(0)
    return " ".join(file.read(500).split()) or "another process"


def sha256(path: str | Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _opener(mode: int | None) -> Callable[[str, int], int]:
    """What `open` takes to open a file with these permissions; None: what the umask leaves to a new one."""

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags, 0o666 if mode is None else mode)
        if mode is not None:
            with contextlib.suppress(OSError):  # somebody else's file, or a disk without permissions
                os.fchmod(descriptor, mode)  # the umask may have taken some away
        return descriptor

    return opener


def _remove_leftovers(target: Path) -> None:
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        if time.time() - leftover.stat().st_mtime > LEFTOVER_AGE:
            leftover.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
