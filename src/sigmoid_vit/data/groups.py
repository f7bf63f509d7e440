"""Which images of a data set belong together: photographs of one part, frames of one film, one patient."""

import csv
import re
from collections.abc import Hashable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from sigmoid_vit.data.images import listed
from sigmoid_vit.errors import UserError

OPTION = "--group_by"


def group_numbers(ids: Sequence[str], group_by: str) -> np.ndarray:
    """The group of each image, int64 [n] from 0 on in order of appearance; all alone where `group_by` is "".

    Args:
        ids: of the images.
        group_by: a CSV file (its name ends in .csv) with the columns image (an id, or a file name) and group;
            or a regular expression that is searched in each file name: the images of one group agree in what
            its parentheses match, or without any, in all that it matches.

    Raises:
        UserError: an image of no group, a bad expression, or a file that is not there or lacks a column.
    """
    if not group_by:
        return np.arange(len(ids))
    groups = group_names(ids, group_by)
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    return np.array([number[group] for group in groups])


def group_names(ids: Sequence[str], group_by: str) -> list[Hashable]:
    """What tells the group of each image from the others: see `group_numbers`."""
    find = _of_file(Path(group_by)) if group_by.lower().endswith(".csv") else _of_pattern(group_by)
    groups = [find(image_id) for image_id in ids]
    alone = [image_id for image_id, group in zip(ids, groups, strict=True) if group is None]
    if alone:
        what = f"{OPTION} {group_by} gives {len(alone)} of {len(ids)} images no group"
        raise UserError(f"{what}: {listed(alone)}")
    return groups


def _of_pattern(pattern: str):
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"{OPTION} {pattern} is not a regular expression: {error}") from error

    def find(image_id: str):
        match = compiled.search(PurePosixPath(image_id).name)
        return match and (match.groups() or match.group())

    return find


def _of_file(path: Path):
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{OPTION} {path} cannot be read: {error}") from error
    if not rows or not {"image", "group"} <= rows[0].keys():
        raise UserError(f"{OPTION} {path} needs a first line image,group and then a line for each image")
    groups = {row["image"]: row["group"] for row in rows}
    return lambda image_id: groups.get(image_id, groups.get(PurePosixPath(image_id).name))
