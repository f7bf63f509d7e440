"""Which training edits are shown, and whose they are."""

import numpy as np
import torch
from helpers.step2 import ink_edits, save_edits

from sigmoid_vit.data import load_data
from sigmoid_vit.edits.maps import EditMaps, load_edits
from sigmoid_vit.figures.training_edits import _whose, shown_edits


def test_shown_edits_are_spread_over_people_and_propagation():
    everything = EditMaps(torch.zeros(50, 2, 2), torch.ones(50, 2, 2, dtype=torch.bool), np.arange(50) >= 20)
    assert shown_edits(everything).tolist() == [0, 6, 13, 19, 20, 49]
    few_people = everything.subset(np.arange(18, 50))
    assert shown_edits(few_people).tolist() == [0, 1, 2, 12, 21, 31]
    assert shown_edits(everything.subset(np.arange(3))).tolist() == [0, 1, 2]
    assert shown_edits(EditMaps.empty(4, (2, 2))).tolist() == []


def test_an_edit_that_is_not_the_stored_one_has_no_author(tmp_path):
    part = load_data("digits_decoy").train.subset(range(3))
    store = save_edits(tmp_path / "edits.sqlite", ink_edits(part, range(3), "background"))
    maps = load_edits(store, part, (6, 6))[0]
    maps.edited[1], maps.propagated[2] = ~maps.edited[1], True
    assert _whose(store, part.ids, maps) == ["edit by person", "edit", "propagated edit"]
    nowhere = str(tmp_path / "nowhere.sqlite")
    assert _whose(nowhere, part.ids, maps) == ["edit", "edit", "propagated edit"]
