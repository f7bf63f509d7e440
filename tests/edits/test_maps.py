"""The edits of a part as tensors: which of a store are used, which are counted, and how they are kept."""

import numpy as np
import pytest
import torch
from helpers.step2 import edit_every_digit

from sigmoid_vit import UserError
from sigmoid_vit.data import load_data
from sigmoid_vit.edits.maps import EditMaps, load_edits
from sigmoid_vit.edits.store import EditStore, StoredEdit


@pytest.fixture(scope="module")
def ink_store(tmp_path_factory):
    return edit_every_digit(tmp_path_factory.mktemp("edits") / "edits.sqlite")


def test_edits_of_other_images_are_counted_and_not_used(ink_store):
    part = load_data("digits_decoy", val_fraction=0.1).train
    maps, account = load_edits(ink_store, part, (6, 6))
    assert maps.has_edit.all()
    assert {what: count for what, count in account.items() if count} == {
        "used": 1167,
        "of unknown images": 130,
    }
    account = load_edits(ink_store, part, (6, 6), data=load_data("digits_decoy"))[1]
    assert account["of the data set's other images"] == 130
    assert account["of unknown images"] == 0
    test = load_data("digits_decoy").test()
    with pytest.raises(UserError, match="holds no edit of an image in test"):
        load_edits(ink_store, test, (6, 6))


def test_the_edit_of_a_changed_image_is_not_used(ink_store):
    part = load_data("digits_decoy", val_fraction=0.1).train
    part.images[5] += 1
    maps, account = load_edits(ink_store, part, (3, 3))
    assert account["of changed images"] == 1
    assert account["resampled"] == 1166
    assert not maps.has_edit[5]
    assert maps.value.shape == (1167, 3, 3)


def test_shuffled_edits_stay_with_the_edited_images_and_move():
    at = [0, 2, 3, 7]
    edited = torch.zeros(9, 2, 2, dtype=torch.bool)
    edited[at] = True
    value = torch.arange(9.0)[:, None, None].expand(9, 2, 2) / 10
    maps = EditMaps(value, edited)
    maps.propagated[7] = True
    moved = maps.control("shuffled", 0)
    assert np.flatnonzero(moved.propagated).tolist() == [7]
    assert np.array_equal(moved.has_edit, maps.has_edit)
    chosen = moved.value[at, 0, 0]
    assert sorted(chosen.tolist()) == pytest.approx([0.0, 0.2, 0.3, 0.7])
    assert (chosen != value[at, 0, 0]).all()
    with pytest.raises(UserError, match="at least two edited training images"):
        maps.subset([0, 1]).control("shuffled", 0)


def test_random_cells_keep_what_an_edit_says_but_not_where():
    random = torch.Generator().manual_seed(0)
    maps = EditMaps(torch.rand(9, 4, 5, generator=random), torch.rand(9, 4, 5, generator=random) < 0.5)
    maps.edited[4] = False
    moved = maps.control("random_cells", 0)
    assert np.array_equal(moved.has_edit, maps.has_edit)
    for i in np.flatnonzero(maps.has_edit):
        assert not torch.equal(moved.edited[i], maps.edited[i])
        own, others = (m.value[i][m.edited[i]].sort().values for m in (maps, moved))
        assert torch.equal(own, others)
    assert not torch.equal(moved.edited[0] ^ maps.edited[0], moved.edited[1] ^ maps.edited[1])


def test_the_mean_map_is_one_for_all_edited_images():
    value = torch.tensor([[[0.0, 1.0]], [[0.5, 1.0]], [[0.25, 0.0]]])
    maps = EditMaps(value, torch.tensor([[[True, True]], [[True, False]], [[False, False]]]))
    mean = maps.control("mean_map", 0)
    assert torch.equal(mean.value[0], torch.tensor([[0.25, 1.0]]))
    assert torch.equal(mean.value[0], mean.value[1])
    assert mean.edited.tolist() == [[[True, True]], [[True, True]], [[False, False]]]
    lone = EditMaps(torch.zeros(3, 1, 3), torch.eye(3, dtype=torch.bool)[:, None])
    with pytest.raises(UserError, match="no cell is edited on half"):
        lone.control("mean_map", 0)


def test_edits_of_a_run_are_read_back(tmp_path):
    maps, ids = EditMaps.empty(20, (6, 6)), [str(i) for i in range(20)]
    maps.edited[[3, 7]], maps.value[3], maps.propagated[7] = True, torch.rand(6, 6), True
    maps.unchanged[11] = True
    maps.write(tmp_path / "edits.npz", ids)
    again = EditMaps.read(tmp_path / "edits.npz", ids)
    assert torch.equal(again.value, maps.value)
    assert torch.equal(again.edited, maps.edited)
    assert np.array_equal(again.propagated, maps.propagated)
    assert np.array_equal(again.unchanged, maps.unchanged)
    fewer = EditMaps.read(tmp_path / "edits.npz", ids[5:])
    assert np.flatnonzero(fewer.has_edit).tolist() == [2]


def test_the_key_of_propagated_edits_is_the_one_of_older_runs(tmp_path):
    """A run folder made before the word changed opens, and a new one opens there."""
    maps = EditMaps(torch.zeros(2, 1, 1), torch.ones(2, 1, 1, dtype=torch.bool), np.array([False, True]))
    maps.write(tmp_path / "edits.npz", ["a", "b"])
    with np.load(tmp_path / "edits.npz") as file:
        assert set(file.files) == {"grid", "value", "edited", "predicted", "ids"}
        assert file["predicted"].tolist() == [False, True]


def test_what_reviewers_sent_back_is_not_learned_and_what_was_looked_at_is_known(tmp_path):
    part = load_data("digits_decoy").train
    notes = [
        "beak",
        "sent back: the rim",
        "accepted: beak",
        "looked at, nothing to change",
        "skipped: blurred",
    ]
    notes += ["accepted: looked at, nothing to change: fine"]
    with EditStore(tmp_path / "edits.sqlite") as store:
        for i, note in enumerate(notes):
            value, edited = np.zeros((6, 6), np.float32), np.full((6, 6), i < 3)
            store.save(StoredEdit(part.ids[i], part.sha256(i), value, edited, "mika", note=note))
    maps, account = load_edits(str(tmp_path / "edits.sqlite"), part, (6, 6))
    assert np.flatnonzero(maps.has_edit).tolist() == [0, 2]
    assert np.flatnonzero(maps.unchanged).tolist() == [3, 5]
    counts = {what: count for what, count in account.items() if count}
    assert counts == {
        "used": 2,
        "without a marked cell": 1,
        "looked at, nothing to change": 2,
        "sent back by a reviewer": 1,
    }
