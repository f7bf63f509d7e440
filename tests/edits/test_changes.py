"""What a row of the history says is what the revision changed."""

from dataclasses import replace

import numpy as np
import pytest

from sigmoid_vit.edits.changes import RevisionChange, changes_of
from sigmoid_vit.edits.store import EditStore, StoredEdit


def edit(*cells, value=0.0, author="mika", **changes):
    edited = np.zeros((2, 3), bool)
    for cell in cells:
        edited.flat[cell] = True
    return StoredEdit("a", "0" * 64, np.full((2, 3), value, np.float32), edited, author, **changes)


def test_every_way_to_a_revision_is_told(tmp_path):
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save(edit(0, author="propagated", confidence=0.9))
        store.restore("a", 1, "mika")
        store.save(edit(0, 1, 2))
        store.save(edit(1, 2, value=0.5))
        store.save(edit(1, 2, value=0.5, note="beak"))
        store.restore("a", 3, "mika")
        store.save(edit(0, 1, 2, author="noor", note="sent back: the rim"))
        store.delete("a", "mika")
        store.save(edit(note="looked at, nothing to change"))
        store.save_many([edit(4, author="noor", client_id="b", created="2020-01-01T00:00:00.000+00:00")])
        found = changes_of(store.history("a"))
    assert found == [
        RevisionChange("propagated", 1, 1, 0, 0),
        RevisionChange("taken_over", 1, 0, 0, 0),
        RevisionChange("drawn", 3, 2, 0, 0),
        RevisionChange("drawn", 2, 0, 1, 2),
        RevisionChange("note", 2, 0, 0, 0),
        RevisionChange("back", 3, 1, 0, 2, same_as=3),
        RevisionChange("sent_back", 3, 0, 0, 0),
        RevisionChange("deleted", 0, 0, 3, 0),
        RevisionChange("unchanged", 0, 0, 0, 0),
        RevisionChange("imported", 1, 1, 0, 0),
    ]


@pytest.mark.parametrize("shape", [(3, 3), (2, 2, 3)])
def test_on_another_grid_only_the_cells_are_counted(shape):
    first = replace(edit(0, 1), revision=1, created="1")
    second = replace(first, value=np.zeros(shape, np.float32), edited=np.ones(shape, bool), revision=2)
    assert changes_of([first, second])[1] == RevisionChange("drawn", int(np.prod(shape)), None, None, None)
