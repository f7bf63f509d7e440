"""What a person can put right, said in one sentence and without a traceback."""

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable

from sigmoid_vit.environment import end_at_once

PATIENCE = 3  # seconds in which the first of several processes says for all what is wrong, and all end


class UserError(ValueError):
    """Something the user can put right. The message is one sentence: what, where, and what to do."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook, in the place of a traceback."""
        return [f"error: {self}"]


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; a `UserError` becomes one line on stderr and its exit code, 1 for most.

    Ctrl-C and SIGTERM end it without a traceback, and what it had begun to write is cleared away.
    """
    before = signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGINT) is end_at_once:  # so far, in the imports
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        try:
            main()
        finally:  # a signal while Python clears up needs no more words
            signal.signal(signal.SIGTERM, before)
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)
    except UserError as error:
        if not speaks():
            time.sleep(PATIENCE)
        if error.exit_code == 1:
            sys.exit(f"error: {error}")
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit("interrupted")


def speaks() -> bool:
    """Whether this process is the one of its computer that says what all of them have to say."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _end(number: int, _: object) -> None:
    if speaks():
        print("ended by SIGTERM", file=sys.stderr)
    sys.exit(128 + number)
