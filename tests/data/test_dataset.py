"""The validation cut is a stratified partition, seeded, and stays when images come or go."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmoid_vit.data import DATASETS, Part, load_data
from sigmoid_vit.data.dataset import cut_validation
from sigmoid_vit.errors import UserError


def fake_part(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return Part([f"train/{i}" for i in range(len(labels))], labels, [f"c{k}" for k in range(len(counts))])


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(10, 40), min_size=2, max_size=6),
    fraction=st.floats(0.1, 0.6),
    seed=st.integers(0, 5),
)
def test_validation_cut_is_a_stratified_partition(counts, fraction, seed):
    part = fake_part(counts)
    train, val = cut_validation(part, fraction, seed)
    assert set(train.ids).isdisjoint(val.ids)
    assert sorted(train.ids + val.ids) == sorted(part.ids)
    assert np.all(np.abs(np.bincount(val.labels) - fraction * np.array(counts)) <= 0.5)
    for cut in (train, val):  # ids and labels still belong together
        assert [part.labels[int(name.split("/")[1])] for name in cut.ids] == cut.labels.tolist()


def test_validation_cut_depends_on_the_seed_alone():
    part = fake_part([20, 30])
    assert cut_validation(part, 0.2, 1)[1].ids == cut_validation(part, 0.2, 1)[1].ids
    assert cut_validation(part, 0.2, 1)[1].ids != cut_validation(part, 0.2, 2)[1].ids


def test_every_class_has_a_validation_image_however_few_it_has():
    train, val = cut_validation(fake_part([2] * 60), 0.1, 0)
    assert val.labels.tolist() == train.labels.tolist() == list(range(60))


@settings(max_examples=30, deadline=None)
@given(gone=st.sets(st.integers(0, 149), min_size=1, max_size=5), seed=st.integers(0, 5))
def test_an_image_that_comes_or_goes_moves_at_most_one_other(gone, seed):
    """Of its class; read in either direction, from the fewer images to all of them or back."""
    part = fake_part([50, 100])
    fewer = part.subset([i for i in range(150) if i not in gone])
    moved = set(cut_validation(part, 0.1, seed)[1].ids) ^ set(cut_validation(fewer, 0.1, seed)[1].ids)
    left = {f"train/{i}" for i in gone}
    for k in (0, 1):
        of_class = {part.ids[i] for i in np.flatnonzero(part.labels == k)}
        assert len((moved - left) & of_class) <= len(left & of_class)


@pytest.mark.parametrize(
    ("counts", "fraction", "words"),
    [
        ([20, 1], 0.2, "c1"),
        ([5, 5], 0.95, "no train image of class c0, c1"),
        ([40, 2], 0.9, "c1"),
    ],
)
def test_a_cut_that_would_empty_a_class_is_refused(counts, fraction, words):
    with pytest.raises(UserError, match=words):
        cut_validation(fake_part(counts), fraction, 0)


def test_val_fraction_outside_its_range_is_refused():
    with pytest.raises(UserError, match=r"1\.5"):
        load_data("digits_decoy", val_fraction=1.5)


def test_unknown_data_set_and_missing_path():
    with pytest.raises(UserError, match=f"imagenet.*{', '.join(DATASETS)}"):
        load_data("imagenet")
    with pytest.raises(UserError, match="DATASET_PATH"):
        load_data("folder")
