"""Several people on one store: what each of them is told of the others, and which image is next for whom."""

from collections.abc import Sequence

import numpy as np

from sigmoid_vit.editor.part_edits import PartEdits
from sigmoid_vit.editor.presence import Presence
from sigmoid_vit.edits.status import STATUSES

ROLES = {  # what Next leads to
    "edit": ("todo", "propagated", "sent_back"),  # what was sent back to this author
    "review": ("done", "unchanged", "skipped"),  # what somebody else did
}


class Team:
    """The people who work on the images of one part, through this server or another one of the store."""

    def __init__(self, edits: PartEdits) -> None:
        self.edits, self.presence = edits, Presence(edits.store.path)

    def announce(
        self, page: str, author: str, opened: int | None, wanted: Sequence[int], role: str, since: int
    ) -> dict:
        """A page says that it is here, and is told of the others.

        Args:
            page: its name.
            opened: the image it has open.
            wanted: images to which it may go on, best first.
            role: one of ROLES.
            since: the newest revision of the store that it knows of.

        Returns:
            "people", the others, each with the id of its "image", the number of this one, "open", and that of
            the image that is kept as the "next"; "next", the image that is kept for this page; "changed",
            the number, the letter of the status, the newest revision and the author of each image with a
            revision after `since`; and what `overview` says. None stands for no image of this part.
        """
        edits = self.edits
        edits.refresh()
        facts = self.overview()
        changed = np.flatnonzero(edits.newest_revision > since).tolist()
        ids = [edits.ids[i] for i in wanted if self._is_wanted(i, author, role)]
        opened_id = None if opened is None else edits.ids[opened]
        others, kept = self.presence.announce(page, author, opened_id, ids)
        return facts | {
            "people": [self._person(each) for each in others],
            "next": edits.position.get(kept),
            "changed": [self._change(i) for i in changed],
        }

    def overview(self) -> dict:
        """The newest revision that is counted, the progress, and who made the current edits."""
        return {
            "revision": self.edits.seen,
            "progress": self.edits.progress(),
            "authors": self.edits.authors(),
        }

    def _person(self, facts: dict) -> dict:
        opened, kept = (self.edits.position.get(facts[what]) for what in ("image", "next"))
        return {"author": facts["author"], "image": facts["image"], "open": opened, "next": kept}

    def _change(self, i: int) -> list:
        edits = self.edits
        return [i, STATUSES[edits.status[i]], int(edits.newest_revision[i]), edits.author[i]]

    def _is_wanted(self, i: int, author: str, role: str) -> bool:
        status, is_own = self.edits.status[i], self.edits.author[i] == author
        return (
            status in ROLES[role] and (is_own or status != "sent_back") and not (is_own and role == "review")
        )
