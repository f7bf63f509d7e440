"""Agreement between people: what is compared, and beside what chance would give."""

import json

import numpy as np
import pytest

from sigmoid_vit.edits.agreement import ALL, agreement, as_text, independent_edits
from sigmoid_vit.edits.exchange import export_edits
from sigmoid_vit.edits.store import EditStore, StoredEdit


def edit(image, author, *cells, value=0.0, **changes):
    edited = np.zeros((2, 4), bool)
    edited.flat[list(cells)] = True
    return StoredEdit(image, "0" * 64, np.full((2, 4), value, np.float32), edited, author, **changes)


@pytest.fixture
def store(tmp_path):
    with EditStore(tmp_path / "edits.sqlite") as store:
        yield store


def compared(store):
    found = independent_edits(store.history())
    return {image: {who: e.revision for who, e in by.items()} for image, by in found.items() if by}


def test_only_edits_that_begin_without_anothers_are_compared(store):
    store.save(edit("taken away", "mika", 0))
    store.save(edit("taken away", "mika", 0, 1))
    store.delete("taken away", "lead")
    store.save(edit("taken away", "noor", 1, 2))
    store.save(edit("taken away", "lead", 1))  # has seen both
    store.save(edit("gone on", "mika", 0))
    store.save(edit("gone on", "noor", 0, 1))
    store.delete("gone on", "noor")
    store.save(edit("gone on", "noor", 5))  # saw it, and took it away
    store.save(edit("proposed", "propagated", 0, confidence=0.9))
    store.save(edit("proposed", "mika", 0))
    store.save(edit("taken back", "mika", 0))
    store.delete("taken back", "mika")
    store.save(edit("taken back", "noor", 0))
    store.save(edit("reviewed", "mika", 0))
    store.save(edit("reviewed", "noor", 0, note="accepted: "))
    store.save(edit("reviewed", "mika", 0, 1))
    assert compared(store) == {
        "taken away": {"mika": 2, "noor": 4},
        "gone on": {"mika": 6},
        "taken back": {"noor": 14},
        "reviewed": {"mika": 17},
    }


def test_agreement_on_paper_by_class_and_beside_chance(store, tmp_path):
    with EditStore(tmp_path / "other.sqlite") as other:
        for image, mika, noor in (("a1", [0, 1], [1, 2]), ("a2", [4], [4]), ("b1", [0], [7])):
            store.save(edit(image, "mika", *mika))
            other.save(edit(image, "noor", *noor))
        other.save(edit("b2", "noor", 3))
        store.save(edit("b2", "mika", 3, value=1.0))  # kept, not erased
        rows = agreement([store.history(), other.history()], {"a1": "a", "a2": "a", "b1": "b", "b2": "b"})
    together, a, b = rows
    assert (a.name, a.images, a.pairs) == ("a", 2, 2)
    assert a.iou == pytest.approx((1 / 3 + 1) / 2)
    assert a.chance == 0
    assert (b.images, b.iou) == (2, 0)
    assert b.chance == pytest.approx(0)
    assert (together.name, together.images, together.iou) == (ALL, 4, pytest.approx(1 / 3))
    assert "all classes       4      4  0.333      0.000" in as_text(rows)


def test_shuffled_edits_agree_as_chance_says(store, tmp_path):
    """Where the second person's edit has nothing to do with the image, agreement is chance."""
    random = np.random.default_rng(0)
    with EditStore(tmp_path / "other.sqlite") as other:
        for i in range(60):
            store.save(edit(f"{i}", "mika", *random.permutation(8)[:3]))
            other.save(edit(f"{i}", "noor", *random.permutation(8)[:3]))
        (row,) = agreement([store.history(), other.history()])
    assert row.chance == pytest.approx(row.iou, abs=0.06)
    assert 0.1 < row.chance < 0.4


def test_an_export_has_the_agreement_and_the_statuses(store, tmp_path):
    store.save(edit("a", "mika", 0))
    store.delete("a", "lead")
    store.save(edit("a", "noor", 0, 1))
    store.save(edit("b", "noor", note="looked at, nothing to change"))
    export_edits(store, tmp_path / "export", class_of={"a": "cat"})
    found = json.loads((tmp_path / "export/agreement.json").read_text())
    assert [(row["name"], row["iou"], row["chance"]) for row in found["classes"]] == [
        (ALL, 0.5, None),
        ("cat", 0.5, None),
    ]
    assert "without having seen another's" in found["definition"]
    facts = json.loads((tmp_path / "export/export.json").read_text())
    assert facts["statuses"] == {"done": 1, "unchanged": 1}
    rows = [json.loads(line) for line in (tmp_path / "export/metadata.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["done", "unchanged"]
    assert as_text(agreement([[]])) == "no image was edited independently by two people"
