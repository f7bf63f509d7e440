"""Propagation: a copy learns the edits alone, edits the other images, and never overrules a person."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.runs import train
from helpers.step2 import ink_edits, prepared, save_edits

from sigmoid_vit import UserError
from sigmoid_vit.data import ink_grid, load_data
from sigmoid_vit.edits.maps import EditMaps, load_edits
from sigmoid_vit.edits.store import PROPAGATED, EditStore
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.training.propagation import (
    Prediction,
    Targets,
    _agreement,
    _platt,
    _prediction,
    save_predictions,
)


def one_image(value, edited):
    return EditMaps(torch.tensor([[value]]), torch.tensor([[edited]]))  # [1, 1, gw]


def digits():
    return load_data("digits_decoy").train


def propagating(path, *options):
    return ["--edits", path, "--propagate", "true", *options]


# ---------------------------------------------------------------- on paper


def test_a_cell_erased_or_kept_by_every_edit_leaves_the_others_to_the_other_kind():
    both = Targets.of(one_image([0.8, 0.0, 0.3], [True, True, False]))
    assert both.kept_value == pytest.approx(0.8)
    assert both.erased_value == 0
    assert both.maps.edited.tolist() == [[[True, True, False]]]
    erased = Targets.of(one_image([0.0, 0.1, 0.0], [True, True, False]))
    assert erased.kept_value is None
    assert erased.erased_value == 0
    assert erased.maps.edited.all()
    assert erased.maps.value[0, 0, 2] == 1
    kept = Targets.of(one_image([0.7, 0.0, 0.0], [True, False, False]))
    assert kept.erased_value is None
    assert kept.maps.edited.all()
    assert kept.maps.value[0, 0, 1] == 0


def test_agreement_is_measured_by_cell_and_by_image():
    a, b, c, d = [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 1]
    kept = torch.tensor([a, b, c, a, b, c, a, d], dtype=torch.bool)[:, None]
    scores = torch.where(kept, 3.0, -3.0)  # [8, 1, 4], of the copy
    value, edited = torch.where(kept, 0.9, 0.0), torch.ones_like(kept)
    value[7] = 0.9 - value[7]  # a person's slip: everything the other way round
    edited[0, 0, 3] = False
    truth = EditMaps(value, edited)
    agreement, right = _agreement(scores, truth)
    assert right.tolist() == [1] * 7 + [0]
    assert agreement["held-out images"] == 8
    assert agreement["cells right"] == pytest.approx(27 / 31)
    assert agreement["kept cells right"] == pytest.approx(12 / 14)
    assert (_platt(scores, truth)(scores) > 0.5).equal(kept)


def test_only_sure_cells_of_sure_images_are_propagated():
    maps = EditMaps.empty(3, (1, 4))
    maps.edited[0], maps.value[0, 0, 0] = True, 0.9
    kept = torch.tensor([[[0.99, 0.01, 0.99, 0.7]], [[0.6, 0.5, 0.4, 0.6]]])  # of images 1 and 2
    found = _prediction(kept, np.array([1, 2]), Targets.of(maps), [], {})
    assert found.confidence.tolist() == pytest.approx([0, (0.99 * 3 + 0.7) / 4, 0.575])
    assert found.maps.edited[1].tolist() == [[True, True, True, False]]
    torch.testing.assert_close(found.maps.value[1], torch.tensor([[0.9, 0, 0.9, 0]]))
    assert found.maps.propagated.tolist() == [False, True, False]
    assert found.report["predicted"] == 1
    assert found.report["not sure"] == 1


def test_an_edit_that_keeps_no_cell_is_propagated_only_where_a_person_made_one():
    maps = EditMaps.empty(4, (1, 3))
    maps.edited[0], maps.value[0, 0, 0] = True, 0.9
    kept = torch.tensor([[[0.01, 0.01, 0.01]], [[0.99, 0.01, 0.01]], [[0.6, 0.5, 0.4]]])  # of images 1 to 3
    found = _prediction(kept, np.array([1, 2, 3]), Targets.of(maps), [], {})
    assert found.maps.propagated.tolist() == [False, False, True, False]
    assert not found.maps.edited[1].any()
    counts = {name: found.report[name] for name in ("predicted", "not sure", "nothing kept")}
    assert counts == {"predicted": 1, "not sure": 1, "nothing kept": 1}
    maps.value[:] = 0  # a person erased it all as well
    maps.edited[1], maps.value[1, 0, 2] = True, 0.9
    assert _prediction(kept[:1], np.array([2]), Targets.of(maps), [], {}).report["predicted"] == 1


# ---------------------------------------------------------------- in the store


def edits_of(part, positions):
    """Propagated edits of the images at these positions."""
    maps = EditMaps.empty(len(part), (6, 6))
    maps.edited[positions] = True
    maps.propagated = maps.has_edit
    return Prediction(maps, np.full(len(part), 0.95), [], {})


def test_a_persons_word_always_wins(tmp_path):
    train = digits().subset(np.arange(6)).prepare((24, 24))
    part, path = train.part, tmp_path / "edits.sqlite"
    nothing = np.zeros((6, 6), dtype=bool)
    skipped = replace(ink_edits(part, [1])[0], edited=nothing, note="skipped: blurred")
    save_edits(path, [*ink_edits(part, [0]), skipped])
    save_predictions(path, train, edits_of(part, [0, 1, 2, 3, 4]), "note", "")
    with EditStore(path) as store:
        now = store.current_all()
        authors = dict(zip(part.ids[:5], ["person"] * 2 + [PROPAGATED] * 3, strict=True))
        assert {image_id: edit.author for image_id, edit in now.items()} == authors
        assert now[part.ids[2]].confidence == pytest.approx(0.95)
        assert now[part.ids[2]].note == "note"
        store.delete(part.ids[2], "person")  # rejected
    save_predictions(path, train, edits_of(part, [2, 3, 5]), "again", "")
    with EditStore(path, readonly=True) as store:
        assert set(store.current_all(PROPAGATED)) == {part.ids[3], part.ids[5]}  # 4 is not made again
        assert store.history(part.ids[4])[-1].deleted
        assert len(store.history(part.ids[0])) == 1
    maps, account = load_edits(str(path), part, (6, 6))
    assert account["used"] == 1
    assert account["without a marked cell"] == 1
    assert not maps.propagated.any()
    maps, account = load_edits(str(path), part, (6, 6), propagated=True)
    assert account["used"] == 3
    assert account["propagated"] == 2
    assert np.flatnonzero(maps.propagated).tolist() == [3, 5]


# ---------------------------------------------------------------- trained


@pytest.fixture(scope="module")
def propagated(tmp_path_factory):
    """A run whose 24 edits were propagated, from random weights, to the other digits; and its options."""
    folder = tmp_path_factory.mktemp("propagated")
    edits = ink_edits(digits(), range(0, 1152, 48), "background")
    path = save_edits(folder / "edits.sqlite", edits)
    options = [*propagating(path, "--propagate_steps", "150"), "--epochs", "1"]
    train(folder, *options)
    return folder, options


def test_propagated_edits_agree_with_those_nobody_made(propagated):
    folder, _ = propagated
    facts = Run(folder / "run").facts()
    agreement, account = facts["propagation"]["agreement"], facts["edits"]
    assert agreement["held-out images"] == 24
    assert agreement["cells right"] > 0.85
    with EditStore(folder / "edits.sqlite", readonly=True) as store:
        edits = store.current_all(PROPAGATED)
    assert len(edits) == account["propagated"] > 500
    assert account["used"] == len(edits) + 24
    ink = dict(zip(digits().ids, ink_grid(digits()), strict=True))
    erased_ink = [(e.edited & ink[name]).sum() / ink[name].sum() for name, e in edits.items()]
    erased_rest = [(e.edited & ~ink[name]).sum() / (~ink[name]).sum() for name, e in edits.items()]
    assert np.mean(erased_ink) < 0.15
    assert np.mean(erased_rest) > 0.75
    assert all((edit.value == 0).all() for edit in edits.values())
    assert min(edit.confidence for edit in edits.values()) >= 0.9


def test_a_resumed_run_keeps_the_edits_it_began_with(propagated):
    folder, options = propagated
    with EditStore(folder / "edits.sqlite") as store:
        store.delete(next(iter(store.current_all())), "person")
    before = EditMaps.read(Run(folder / "run").edits, digits().ids)
    again = prepared(folder, *options, "--resume").edits.maps
    assert torch.equal(again.edited, before.edited)
    assert np.array_equal(again.propagated, before.propagated)


def test_stored_edits_are_used_as_they_are(propagated):
    folder, options = propagated
    with EditStore(folder / "edits.sqlite") as store:
        name = next(iter(store.current_all(PROPAGATED)))
        store.delete(name, "person")  # a reviewer rejects one
        revisions, left = len(store.history()), len(store.current_all())
    maps = prepared(folder, *options, "--propagate", "stored", "--runs_name", "stored").edits.maps
    assert maps.has_edit.sum() == left
    assert not maps.has_edit[digits().ids.index(name)]
    with EditStore(folder / "edits.sqlite", readonly=True) as store:
        assert len(store.history()) == revisions


def test_doubted_edits_do_not_teach_and_can_be_dropped(tmp_path, capsys):
    edits = ink_edits(digits(), range(0, 1152, 48))
    slips = sorted([edits[3].image_id, edits[11].image_id])
    wrong = [replace(e, value=0.9 - e.value) if e.image_id in slips else e for e in edits]
    path = save_edits(tmp_path / "edits.sqlite", wrong)
    trainer = prepared(tmp_path, *propagating(path, "--propagate_steps", "150", "--doubted", "drop"))
    assert sorted(trainer.edits.facts["propagation"]["look again at"]) == slips
    assert trainer.edits.facts["edits"]["doubted and dropped"] == 2
    printed = capsys.readouterr().out
    assert "% of the cells of 24 edits" in printed
    assert "2 doubted and dropped" in printed
    for name in slips:
        assert name in printed.partition("look again at ")[2]
    assert not set(slips) & set(trainer.train.part.ids)
    with EditStore(path, readonly=True) as store:  # a person's word stays
        assert store.current_all()[slips[0]].author == "person"


def test_too_few_edits_are_refused(tmp_path):
    path = save_edits(tmp_path / "edits.sqlite", ink_edits(digits(), [0, 1, 2]))
    with pytest.raises(UserError, match="at least 4 edited training images; there are 3"):
        prepared(tmp_path, *propagating(path))


def test_edits_that_say_one_thing_are_refused(tmp_path):
    edits = [replace(e, value=np.full((6, 6), 0.9, np.float32)) for e in ink_edits(digits(), range(8))]
    path = save_edits(tmp_path / "edits.sqlite", edits)
    with pytest.raises(UserError, match="the same of every cell"):
        prepared(tmp_path, *propagating(path, "--propagate_steps", "1"))


def test_the_network_that_is_copied_stays_as_it_is(tmp_path):
    path = save_edits(tmp_path / "edits.sqlite", ink_edits(digits(), range(8)))
    plain = prepared(tmp_path, "--edits", path).network.model.state_dict()
    options = propagating(path, "--propagate_steps", "3")
    after = prepared(tmp_path, *options).network.model.state_dict()
    for name in plain:
        assert torch.equal(plain[name], after[name]), name
