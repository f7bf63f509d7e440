"""Any edit that a store may hold, for property-based tests."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sigmoid_vit.edits.store import StoredEdit

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INDICES = st.lists(st.integers(-12, 11), max_size=3)


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
