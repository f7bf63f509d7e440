"""Edits for a store: a plain one, a store full of them, and any edit that a store may hold."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sigmoid_vit.edits.store import EditStore, StoredEdit

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INDICES = st.lists(st.integers(-12, 11), max_size=3)


def an_edit(image_id="train/1", fill=0.5, author="mika", **changes):
    value = np.full((3, 2), fill, np.float32)
    return StoredEdit(image_id, "0" * 64, value, value > 0, author, **changes)


def filled_store(path):
    """Write a store with twelve revisions of four images; its path."""
    with EditStore(path) as store:
        for i in range(12):
            store.save(an_edit(f"train/{i % 4}", i / 20))
    return path


@st.composite
def edits(draw):
    """Any edit that may be saved."""
    shape = draw(st.lists(st.integers(1, 5), min_size=2, max_size=3).map(tuple))
    author = draw(st.one_of(st.just("propagated"), TEXT.filter(bool)))
    return StoredEdit(
        draw(TEXT.filter(bool)),
        draw(TEXT),
        draw(hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32))),
        draw(hnp.arrays(np.bool_, shape)),
        author,
        layers=draw(st.sampled_from(["all", "last"]) | INDICES),
        heads=draw(st.none() | INDICES),
        queries=draw(st.sampled_from(["cls", "all"])),
        note=draw(TEXT),
        weights_sha256=draw(TEXT),
        confidence=draw(st.none() | st.floats(0, 1)) if author == "propagated" else None,
    )
