"""What the newest revision of an image says of the work on it.

A revision that is more than numbers says so in the first words of its note: that the person left the image as
it is, or what a reviewer thinks of the revision before, whose content it repeats.
"""

from sigmoid_vit.edits.store import PROPAGATED, StoredEdit

STATUSES = {  # name -> its letter in a list of many images
    "todo": "t",
    "done": "d",  # a person's edit
    "unchanged": "u",  # a person looked at the image, and nothing is edited
    "skipped": "s",  # a person left the image as it is, for another reason
    "propagated": "p",  # an edit that propagation made and nobody has accepted
    "accepted": "a",  # by a reviewer: a person's edit, or that nothing is edited
    "sent_back": "b",  # by a reviewer, with a reason; Step 2 does not learn from it
}
UNCHANGED, SKIPPED = "looked at, nothing to change", "skipped: "
ACCEPTED, SENT_BACK = "accepted: ", "sent back: "


def status_of(newest: StoredEdit | None) -> str:
    """One of STATUSES for an image's newest revision."""
    if newest is None or newest.deleted:
        return "todo"
    if newest.author == PROPAGATED:
        return "propagated"
    for first_words, status in ((ACCEPTED, "accepted"), (SENT_BACK, "sent_back")):
        if newest.note.startswith(first_words):
            return status
    if newest.edited.any():
        return "done"
    return "unchanged" if newest.note.startswith(UNCHANGED) else "skipped"


def is_review(edit: StoredEdit) -> bool:
    """Whether a revision only says what a reviewer thinks of the one before."""
    return status_of(edit) in ("accepted", "sent_back")


def says_unchanged(newest: StoredEdit) -> bool:
    """Whether a person looked at the image and nothing is edited, accepted by a reviewer or not."""
    text = newest.note.removeprefix(ACCEPTED)
    return not (newest.deleted or newest.edited.any()) and text.startswith(UNCHANGED)


def drawn(history: list[StoredEdit]) -> StoredEdit | None:
    """The newest revision of an image that is no review: who drew, and the note on it.

    Args:
        history: all revisions of the image, oldest first.
    """
    return next((edit for edit in reversed(history) if not is_review(edit)), None)
