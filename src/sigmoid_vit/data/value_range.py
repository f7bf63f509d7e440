"""Which values of deep images (16 bits, floating-point) become black and white: one range for a data set."""

import threading
from collections.abc import Callable, Mapping

INTEGER, FLOAT = "integer", "float"  # kinds of pixels; each has a range of its own
BITS = (8, 10, 12, 14, 16)  # depths that cameras and scanners have
FULL = {INTEGER: 65535.0}  # where training images say nothing: 16 bits, and no floating-point
_finding = threading.Lock()


def white(kind: str, largest: float) -> float:
    """The value that becomes white, 255, where the largest one is this; black is 0.

    The end of the smallest of BITS that holds them all, such as 4095 for 12 bits. Of floating-point pixels it
    is 1 where none is larger, and the largest itself beyond 16 bits.
    """
    if kind == FLOAT and largest <= 1:
        return 1.0
    return next((float(2**bits - 1) for bits in BITS if largest <= 2**bits - 1), largest)


class ValueRange:
    """What `white` says of the training images of a data set, for all images of all its parts.

    Args:
        find: the largest values of the training images by kind; called once, for the first deep image.
        known: the white of each kind, as a run keeps it; of a kind that is missing, FULL holds.
    """

    def __init__(
        self,
        find: Callable[[], Mapping[str, float]] | None = None,
        known: Mapping[str, float] | None = None,
    ) -> None:
        self._find, self._known = find, known if find is None else None

    def white(self, kind: str) -> float | None:
        """The value that becomes 255; None for a kind of pixels that the training images do not have."""
        with _finding:
            if self._find is not None:
                self._known = {each: white(each, largest) for each, largest in self._find().items()}
                self._find = None
        return (FULL | dict(self._known or {})).get(kind)

    def as_dict(self) -> dict[str, float] | None:
        """As config.json keeps it: the white of each kind; None where no deep image was met."""
        return None if self._known is None else dict(self._known)
