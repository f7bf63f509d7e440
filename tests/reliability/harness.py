"""A promise, how it is tried to break it, and the same with the protection taken out."""

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import numpy as np

from sigmoid_vit.errors import UserError

from . import ROOT

FORK = multiprocessing.get_context("fork")  # without the seconds that importing torch takes
HUNG = 120  # seconds after which a child that should end by itself counts as hung


class Unavailable(Exception):
    """This machine cannot try it; the message says why."""


class Row:
    """One promise. `attempt` tries once to break it.

    A row is made once in a process of its own, in an empty folder; what its attempts share is made there.
    """

    promise: str  # what must never happen, or always does
    control: str  # what is taken out for the control
    tries: tuple[int, int]  # small, release
    controls: tuple[int, int] = (3, 10)

    def __init__(self, folder: Path) -> None:
        self.shared = folder

    def without(self):
        """A context in which the protection is out."""
        return nullcontext()

    def attempt(self, number: int, folder: Path, random: np.random.Generator, protected: bool) -> str:
        """Try once, of `self.total` times; "" where the promise held, else what went wrong.

        Args:
            number: of the try, from 0.
            folder: an empty one.
            protected: False in the control, within `without()`.
        """
        raise NotImplementedError


@dataclass
class Counted:
    """What became of a row's tries."""

    tries: int = 0
    failed: int = 0
    first: str = ""  # what went wrong first
    seconds: float = 0.0
    unavailable: str = ""


@dataclass
class Result:
    """A row's tries and those of its control."""

    protected: Counted = field(default_factory=Counted)
    control: Counted = field(default_factory=Counted)

    @property
    def passed(self) -> bool:
        """Nothing failed, and the control did."""
        return bool(self.protected.unavailable) or (self.protected.failed == 0 < self.control.failed)


def count(row: Row, tries: int, protected: bool) -> Counted:
    """Try a row so often."""
    result, start, row.total = Counted(), time.monotonic(), tries
    for number in range(tries):
        random = np.random.default_rng([tries, number, protected])
        taken_out = nullcontext() if protected else row.without()
        with tempfile.TemporaryDirectory(dir=row.shared) as folder, taken_out:
            wrong = row.attempt(number, Path(folder), random, protected)
        result.tries += 1
        result.failed += bool(wrong)
        result.first = result.first or wrong
    result.seconds = time.monotonic() - start
    return result


def outcome(work: Callable[[], object]) -> tuple[str, object, str]:
    """What becomes of work: "done", "told" or "traceback"; its result or error; what it printed."""
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            return "done", work(), said.getvalue()
        except UserError as error:
            kind = "told" if "\n" not in str(error).strip() or "cannot be used" in str(error) else "traceback"
            return kind, error, said.getvalue() + str(error)
        except SystemExit as error:
            return "told", error, said.getvalue() + str(error)
        except Exception as error:
            return "traceback", error, said.getvalue() + traceback.format_exc()


class Child:
    """A forked process with its output in a file; ended with its `with` block."""

    def __init__(self, log: Path, work: Callable, *args: object) -> None:
        self.log = log
        self.process = FORK.Process(target=_with_output, args=(log, work, *args))
        self.process.start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()

    def send(self, number: int) -> None:
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def ended(self, seconds: float = HUNG) -> int | None:
        """Its exit code, negative for the signal that ended it; None if it is still there after so long."""
        self.process.join(seconds)
        return self.process.exitcode

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def _with_output(log: Path, work: Callable, *args: object) -> None:
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1) for n in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work(*args)


def script(name: str, *args: object) -> None:
    """Run src/<name>.py in this process, as from a shell."""
    path = str(ROOT / f"src/{name}.py")
    with patch.object(sys, "argv", [path, *map(str, args)]):
        runpy.run_path(path, run_name="__main__")


def wait_for(condition: Callable[[], object], seconds: float = HUNG) -> bool:
    """Whether the condition comes true within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
