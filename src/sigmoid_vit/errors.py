"""What a person can put right, said in one sentence and without a traceback."""

import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something the user can put right. The message is one sentence: what, where, and what to do."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook, in the place of a traceback."""
        return [f"error: {self}"]


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; a `UserError` becomes one line on stderr and exit code 1."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
