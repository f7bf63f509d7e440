"""What a person can put right, said in one sentence and without a traceback."""

import signal
import sys
from collections.abc import Callable


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
    signal.signal(signal.SIGTERM, _end)
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit("interrupted")


def _end(number: int, _: object) -> None:
    print("ended by SIGTERM", file=sys.stderr)
    sys.exit(128 + number)
