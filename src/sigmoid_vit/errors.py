"""What a person can put right, said in one sentence and without a traceback."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(ValueError):
    """Something the user can put right. The message is one sentence: what, where, and what to do."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook, in the place of a traceback."""
        return [f"error: {self}"]


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations and whose errors are `UserError`s."""

    def __init__(self, description: str, **kwargs) -> None:
        super().__init__(description=description, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help lists the options)")


def positive(text: str) -> int:
    """A whole number of at least 1, for command lines."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; a `UserError` becomes one line on stderr and exit code 1."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
