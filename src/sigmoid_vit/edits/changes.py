"""What each revision of an image changed, and how it came about, as far as the store tells."""

from dataclasses import dataclass

import numpy as np

from sigmoid_vit.edits.status import status_of
from sigmoid_vit.edits.store import PROPAGATED, StoredEdit


@dataclass(frozen=True)
class RevisionChange:
    """A revision beside the one before it.

    Attributes:
        how: "deleted", "propagated", "unchanged", "skipped", "accepted" or "sent_back" by a reviewer,
            "taken_over" (a propagated edit that a person accepted), "back" (as an earlier revision was: by
            undo, redo or restore), "imported" (made before the revision that it follows), "note" (note or
            scope alone), "drawn".
        cells: edited cells; 0 for a deletion.
        added, removed, altered: cells that are edited now and were not, were and are not, and are with
            another value; None on another grid than before.
        same_as: the earlier revision that it repeats, of "back"; None else.
    """

    how: str
    cells: int
    added: int | None
    removed: int | None
    altered: int | None
    same_as: int | None = None


def changes_of(history: list[StoredEdit]) -> list[RevisionChange]:
    """What each revision of an image changed.

    Args:
        history: all revisions of the image, oldest first.
    """
    return [_change(edit, history[:i]) for i, edit in enumerate(history)]


def _change(edit: StoredEdit, earlier: list[StoredEdit]) -> RevisionChange:
    before = earlier[-1] if earlier else None
    how, same_as = _how(edit, before, earlier[:-1])
    return RevisionChange(how, int(_cells(edit).sum()), *_difference(edit, before), same_as)


def _how(edit: StoredEdit, before: StoredEdit | None, earlier: list[StoredEdit]) -> tuple[str, int | None]:
    """How the revision came about, and which earlier one it repeats."""
    if edit.deleted:
        return "deleted", None
    if before is not None and edit.created < before.created:
        return "imported", None
    if (status := status_of(edit)) != "done":
        return status, None
    is_same = before is not None and _same(edit, before)
    if is_same and before.author == PROPAGATED and not before.deleted:
        return "taken_over", None
    if is_same and not before.deleted:
        return "note", None
    same = [other.revision for other in earlier if not other.deleted and _same(edit, other)]
    return ("back", same[-1]) if same else ("drawn", None)


def _same(one: StoredEdit, other: StoredEdit) -> bool:
    return np.array_equal(one.edited, other.edited) and np.array_equal(_values(one), _values(other))


def _difference(edit: StoredEdit, before: StoredEdit | None) -> tuple[int | None, int | None, int | None]:
    now = _cells(edit)
    was = np.zeros_like(now) if before is None else _cells(before)
    if now.shape != was.shape:
        return None, None, None
    altered = 0 if before is None else (now & was & (edit.value != before.value)).sum()
    return int((now & ~was).sum()), int((was & ~now).sum()), int(altered)


def _cells(edit: StoredEdit) -> np.ndarray:
    return edit.edited & (not edit.deleted)


def _values(edit: StoredEdit) -> np.ndarray:
    return np.where(edit.edited, edit.value, 0)
