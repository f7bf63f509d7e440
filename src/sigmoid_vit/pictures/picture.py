"""What every picture is: a figure with its numbers."""

from typing import NamedTuple

from matplotlib.figure import Figure


class Picture(NamedTuple):
    """A figure and what it shows, in numbers: a dictionary that may hold further ones and lists."""

    figure: Figure
    numbers: dict
