"""An edit is refused when it is wrong, and keeps its values and its places on another grid."""

import pytest
import torch
from helpers.reference import random_edit
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmoid_vit import AttentionEdit, UserError

ok, mask = torch.full((2, 4, 4), 0.5), torch.ones(2, 4, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: AttentionEdit(ok + 1, mask), r"value 1\.5.*\[0, 1\]"),
        (lambda: AttentionEdit(ok - 0.6, mask), r"value -0\.1.*\[0, 1\]"),
        (lambda: AttentionEdit(ok * float("nan"), mask), "value nan"),
        (lambda: AttentionEdit(mask, mask), "float tensor, not a torch.bool"),
        (lambda: AttentionEdit(ok, ok), "bool tensor, not a torch.float32"),
        (lambda: AttentionEdit(ok.numpy(), mask), "float tensor, not ndarray"),
        (lambda: AttentionEdit(ok[0], mask[0]), r"\[4, 4\].*\[B, gh, gw\]"),
        (lambda: AttentionEdit(ok, mask[:1]), r"\[1, 4, 4\].*\[2, 4, 4\]"),
        (lambda: AttentionEdit(ok, mask, queries="patches"), "'patches'.*cls.*all"),
        (lambda: AttentionEdit(ok, mask, heads=1), "heads must be None or a sequence"),
        (lambda: AttentionEdit(ok, mask, heads=[0.5]), r"heads must be .*\[0\.5\]"),
        (lambda: AttentionEdit(ok, mask, layers="first"), "layers must be .*last.*all.*'first'"),
        (lambda: AttentionEdit(ok, mask, layers=None), "layers must be .*None"),
        (lambda: AttentionEdit(ok, mask, layers=[1.0]), r"layers must be .*\[1\.0\]"),
        (lambda: AttentionEdit(ok, mask, layers=True), "layers must be .*True"),
    ],
)
def test_bad_edits_are_refused(make, says):
    with pytest.raises(UserError, match=says):
        make()


def test_resize_keeps_constants_and_places():
    value, edited = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    value[0, :2, :2], edited[0, :2, :2] = 0.9, True
    big = AttentionEdit(value, edited).resize((8, 8))
    assert big.edited[0, :4, :4].all()
    assert big.edited.sum() == 16
    torch.testing.assert_close(big.value[big.edited], torch.full((16,), 0.9))
    back = big.resize((4, 4))
    assert torch.equal(back.edited, edited)
    torch.testing.assert_close(back.value[edited], value[edited])


@settings(max_examples=30, deadline=None)
@given(gh=st.integers(1, 20), gw=st.integers(1, 20), seed=st.integers(0, 9))
def test_resize_stays_in_range(gh, gw, seed):
    edit = random_edit(seed=seed).resize((gh, gw))
    assert edit.grid == (gh, gw)
    assert edit.value.min() >= 0
    assert edit.value.max() <= 1
    everywhere = AttentionEdit(ok, mask).resize((gh, gw))
    assert everywhere.edited.all()
    torch.testing.assert_close(everywhere.value, torch.full((2, gh, gw), 0.5))
