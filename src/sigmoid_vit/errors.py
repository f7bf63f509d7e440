"""What a person can put right, said in one sentence and without a traceback."""

import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something the user can put right. The message is one sentence: what, where, and what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; a `UserError` becomes one line on stderr and exit code 1."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
