"""Who may write to a store: any number of processes of one computer, never those of two.

SQLite keeps the processes of one computer from writing at the same moment. Between two computers that share
a folder its locks cannot be relied upon, so a locked file beside the store names the computer of the writers.
"""

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import TextIO

from sigmoid_vit.errors import UserError
from sigmoid_vit.files import PRIVATE, lock, open_to_lock, owner_of, permissions, sign

WAIT_SECONDS = 5.0  # for a first writer that is making the store


class Writers:
    """A place among the writers of a store, until `leave` or the end of the process.

    Args:
        path: the store. Who may use it may use its lock.
        owner: told to whoever is refused, such as a server's address (without its token).

    Attributes:
        first: whether no other process writes; nobody joins before `let_others_join`.

    Raises:
        UserError: another computer writes, or a process that allows no other; the store is gone while others
            have it open; the folder does not take the lock.
    """

    def __init__(self, path: Path, owner: str) -> None:
        file = Path(f"{path}.lock")
        self._lock = open_to_lock(file, permissions(path if path.exists() else file) | PRIVATE)
        try:
            self.first = self._join(path)
            if self.first:
                sign(self._lock, owner or "another process")
        except BaseException:
            self._lock.close()
            raise

    def let_others_join(self) -> None:
        """The store is there and can be used."""
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def leave(self) -> None:
        """Write no more; the last one leaves no name behind. A second call does nothing."""
        if self._lock.closed:
            return
        if lock(self._lock, fcntl.LOCK_EX):
            self._lock.truncate(0)
        self._lock.close()

    def _join(self, path: Path) -> bool:
        end = time.monotonic() + WAIT_SECONDS
        while not lock(self._lock, fcntl.LOCK_EX):
            if lock(self._lock, fcntl.LOCK_SH):
                _require_shared(path, self._lock)
                return False
            if time.monotonic() > end:
                raise UserError(
                    f"{path} is open for writing by {owner_of(self._lock)}, which lets nobody else write; "
                    "work there or end it"
                )
            time.sleep(0.02)
        return True


def _require_shared(path: Path, file: TextIO) -> None:
    """`UserError` if the writers that are there are of another computer, or their store is gone."""
    owner = owner_of(file)
    if not owner.endswith(f" on {socket.gethostname()})"):
        raise UserError(
            f"{path} is open for writing by {owner}; the programs of one computer alone can write to a store "
            "at the same time, so work there or end it"
        )
    if not os.path.exists(path):
        raise UserError(
            f"{path} was moved or deleted while {owner} has it open; put it back, or end that one"
        )
