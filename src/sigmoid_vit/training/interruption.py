"""Signals that ask training to stop: noted, and acted on between two updates, so that no work is lost."""

import ctypes
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sigmoid_vit.errors import UserError
from sigmoid_vit.runs.settings import Settings

LOST = re.compile(r"gloo|nccl|timed? ?out|connection|socket|peer|barrier", re.IGNORECASE)
SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGUSR1,
)  # Ctrl-C; a scheduler's end; SLURM's --signal=USR1@60


def end_with_launcher() -> None:
    """Let a process of several get SIGTERM when the launcher that started it is killed (Linux)."""
    if "LOCAL_RANK" not in os.environ or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() == 1:  # it was killed before that line
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def others_answer(processes: int, settings: Settings) -> Iterator[None]:
    """What torch raises when another process of a training was killed or hangs, in one sentence."""
    try:
        yield
    except RuntimeError as error:
        if processes == 1 or not LOST.search(str(error)):
            raise
        raise UserError(
            f"another process of this training ended or did not answer for {settings.hung_minutes:g} minutes "
            "(HUNG_MINUTES); RESUME=true (--resume) with the same settings goes on from the last checkpoint"
        ) from error


class Stopped(UserError):
    """Training was asked to stop and has written what it had."""

    def __init__(self, number: int, where: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} {where}")
        self.exit_code = 128 + number


class Interruption:
    """Within it, the signals that ask to stop are noted in `number` (0: none) and do nothing else.

    A second Ctrl-C ends at once. Outside of a program's main thread, signals stay as they are.
    """

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> "Interruption":
        try:
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        except ValueError:  # not in the main thread
            self._before = {}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.number == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number
