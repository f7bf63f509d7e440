"""Propagation: a copy learns the edits alone, predicts the others, and never overrules a person."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.runs import settings

from sigmoid_vit import UserError
from sigmoid_vit.data import ink_grid, load_data
from sigmoid_vit.edits.maps import EditMaps, load_edits
from sigmoid_vit.edits.store import EditStore, StoredEdit
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.training.propagation import (
    Prediction,
    Targets,
    _agreement,
    _platt,
    _prediction,
    save_predictions,
)
from sigmoid_vit.training.trainer import Trainer


def ink_edits(part, positions, kind="both"):
    """What a person would save for these digits: ink kept and the rest erased, or one of the two alone."""
    edits = []
    for i in positions:
        ink = ink_grid(part)[i]
        cells = {"both": np.ones_like(ink), "background": ~ink, "object": ink}[kind]
        value = np.where(ink & cells, 0.9, 0).astype(np.float32)
        edits.append(StoredEdit(part.ids[i], part.sha256(i), value, cells, "person"))
    return edits


def one_image(value, edited):
    return EditMaps(torch.tensor([[value]]), torch.tensor([[edited]]))  # [1, 1, gw]


def test_targets_read_what_was_left_alone_as_the_other_kind():
    both = Targets.of(one_image([0.8, 0.0, 0.3], [True, True, False]))
    assert both.kept_value == pytest.approx(0.8) and both.erased_value == 0
    assert both.maps.edited.tolist() == [[[True, True, False]]]
    erased = Targets.of(one_image([0.0, 0.1, 0.0], [True, True, False]))
    assert erased.kept_value is None and erased.erased_value == 0
    assert erased.maps.edited.all() and erased.maps.value[0, 0, 2] == 1
    kept = Targets.of(one_image([0.7, 0.0, 0.0], [True, False, False]))
    assert kept.erased_value is None and kept.maps.edited.all() and kept.maps.value[0, 0, 1] == 0


def test_agreement_is_measured_by_cell_and_by_image():
    a, b, c, d = [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 1]
    kept = torch.tensor([a, b, c, a, b, c, a, d], dtype=torch.bool)[:, None]
    scores = torch.where(kept, 3.0, -3.0)  # [8, 1, 4], what the copy says
    value, edited = torch.where(kept, 0.9, 0.0), torch.ones_like(kept)
    value[7] = 0.9 - value[7]  # a person's slip: everything the other way round
    edited[0, 0, 3] = False
    truth = EditMaps(value, edited)
    agreement, right = _agreement(scores, truth)
    assert right.tolist() == [1] * 7 + [0] and agreement["held-out images"] == 8
    assert agreement["cells right"] == pytest.approx(27 / 31)
    assert agreement["kept cells right"] == pytest.approx(12 / 14)
    assert (_platt(scores, truth)(scores) > 0.5).equal(kept)


def test_only_sure_cells_of_sure_images_are_predicted():
    maps = EditMaps.empty(3, (1, 4))
    maps.edited[0], maps.value[0, 0, 0] = True, 0.9
    kept = torch.tensor([[[0.99, 0.01, 0.99, 0.7]], [[0.6, 0.5, 0.4, 0.6]]])  # of images 1 and 2
    prediction = _prediction(kept, np.array([1, 2]), Targets.of(maps), [], {})
    assert prediction.confidence.tolist() == pytest.approx([0, (0.99 * 3 + 0.7) / 4, 0.575])
    assert prediction.maps.edited[1].tolist() == [[True, True, True, False]]
    torch.testing.assert_close(prediction.maps.value[1], torch.tensor([[0.9, 0, 0.9, 0]]))
    assert prediction.maps.predicted.tolist() == [False, True, False]
    assert prediction.report["predicted"] == 1 and prediction.report["not sure"] == 1


def test_nobody_said_erase_it_all(capsys):
    maps = EditMaps.empty(4, (1, 3))
    maps.edited[0], maps.value[0, 0, 0] = True, 0.9
    kept = torch.tensor([[[0.01, 0.01, 0.01]], [[0.99, 0.01, 0.01]], [[0.6, 0.5, 0.4]]])  # of images 1 to 3
    found = _prediction(kept, np.array([1, 2, 3]), Targets.of(maps), [], {})
    assert found.maps.predicted.tolist() == [False, False, True, False] and not found.maps.edited[1].any()
    counts = {name: found.report[name] for name in ("predicted", "not sure", "nothing kept")}
    assert counts == {"predicted": 1, "not sure": 1, "nothing kept": 1}
    maps.value[:] = 0  # a person erased it all as well
    maps.edited[1], maps.value[1, 0, 2] = True, 0.9
    assert _prediction(kept[:1], np.array([2]), Targets.of(maps), [], {}).report["predicted"] == 1


def predicted(part, positions):
    maps = EditMaps.empty(len(part), (6, 6))
    maps.edited[positions] = True
    maps.predicted = maps.has_edit
    return Prediction(maps, np.full(len(part), 0.95), [], {})


def test_a_persons_word_always_wins(tmp_path):
    part = load_data("digits_decoy", val_fraction=0).train
    train, path = part.subset(np.arange(6)).prepare((24, 24)), tmp_path / "edits.sqlite"
    with EditStore(path) as store:
        store.save_many(ink_edits(part, [0]))
        skipped = replace(
            ink_edits(part, [1])[0], edited=np.zeros((6, 6), dtype=bool), note="skipped: blurred"
        )
        store.save(skipped)
    save_predictions(path, train, predicted(train.part, [0, 1, 2, 3, 4]), "note", "")
    with EditStore(path) as store:
        now = store.current_all()
        assert {k: e.author for k, e in now.items()} == dict(
            zip(part.ids[:5], ["person"] * 2 + [PREDICTED] * 3, strict=True)
        )
        assert now[part.ids[2]].confidence == pytest.approx(0.95) and now[part.ids[2]].note == "note"
        store.delete(part.ids[2], "person")  # rejected
    save_predictions(path, train, predicted(train.part, [2, 3, 5]), "again", "")
    with EditStore(path, readonly=True) as store:
        assert set(store.current_all(PREDICTED)) == {part.ids[3], part.ids[5]}  # 4 is not predicted any more
        assert store.history(part.ids[4])[-1].deleted and len(store.history(part.ids[0])) == 1
    maps, account = load_edits(str(path), train.part, (6, 6))
    assert account["used"] == 1 and account["without a marked cell"] == 1 and not maps.predicted.any()
    maps, account = load_edits(str(path), train.part, (6, 6), predicted=True)
    assert account["used"] == 3 and account["predicted"] == 2
    assert maps.predicted.tolist() == [False, False, False, True, False, True]


def test_edits_of_a_run_are_read_back(tmp_path):
    maps, ids = (
        predicted(load_data("digits_decoy", val_fraction=0).train, [3, 7]).maps,
        [str(i) for i in range(1297)],
    )
    maps.value[3] = torch.rand(6, 6)
    maps.write(tmp_path / "edits.npz", ids)
    again = EditMaps.read(tmp_path / "edits.npz", ids)
    assert torch.equal(again.value, maps.value) and torch.equal(again.edited, maps.edited)
    assert np.array_equal(again.predicted, maps.predicted)
    fewer = EditMaps.read(tmp_path / "edits.npz", ids[5:])
    assert np.flatnonzero(fewer.has_edit).tolist() == [2]


@pytest.fixture(scope="module")
def propagated(tmp_path_factory):
    """A run whose 24 edits were propagated, from random weights, to the other digits."""
    folder = tmp_path_factory.mktemp("propagated")
    part = load_data("digits_decoy").train
    with EditStore(folder / "edits.sqlite") as store:
        store.save_many(ink_edits(part, range(0, 1152, 48), "background"))
    options = [
        "--edits",
        str(folder / "edits.sqlite"),
        "--epochs",
        "1",
        "--propagate",
        "true",
        "--propagate_steps",
        "150",
    ]
    Trainer(settings(folder, *options)).fit()
    return folder, options


def test_predicted_edits_agree_with_those_nobody_made(propagated):
    folder, _ = propagated
    part = load_data("digits_decoy").train
    facts = Run(folder / "run").facts()
    agreement, account = facts["propagation"]["agreement"], facts["edits"]
    assert agreement["held-out images"] == 24 and agreement["cells right"] > 0.85
    with EditStore(folder / "edits.sqlite", readonly=True) as store:
        edits = store.current_all(PREDICTED)
    assert len(edits) == account["predicted"] > 500 and account["used"] == len(edits) + 24
    ink, position = ink_grid(part), {name: i for i, name in enumerate(part.ids)}
    erased_ink = [
        (edit.edited & ink[position[name]]).sum() / ink[position[name]].sum() for name, edit in edits.items()
    ]
    erased_rest = [
        (edit.edited & ~ink[position[name]]).sum() / (~ink[position[name]]).sum()
        for name, edit in edits.items()
    ]
    assert np.mean(erased_ink) < 0.15 < 0.75 < np.mean(erased_rest)
    assert all((edit.value == 0).all() and edit.confidence >= 0.9 for edit in edits.values())


def test_a_resumed_run_keeps_the_edits_it_began_with(propagated):
    folder, options = propagated
    with EditStore(folder / "edits.sqlite") as store:
        store.delete(
            "train/0" if "train/0" in store.current_all() else next(iter(store.current_all())), "person"
        )
    before = EditMaps.read(Run(folder / "run").edits, load_data("digits_decoy").train.ids)
    trainer = Trainer(settings(folder, *options, "--resume"))
    assert torch.equal(trainer.edits.edited, before.edited)


def test_stored_predictions_are_used_as_they_are(propagated):
    folder, options = propagated
    with EditStore(folder / "edits.sqlite") as store:
        name = next(iter(store.current_all(PREDICTED)))
        store.delete(name, "person")  # a reviewer rejects one
        revisions, left = len(store.history()), len(store.current_all())
    trainer = Trainer(settings(folder, *options, "--propagate", "stored", "--runs_name", "stored"))
    part = load_data("digits_decoy").train
    assert trainer.edits.has_edit.sum() == left and not trainer.edits.has_edit[part.ids.index(name)]
    with EditStore(folder / "edits.sqlite", readonly=True) as store:
        assert len(store.history()) == revisions


def test_doubted_edits_do_not_teach_and_can_be_dropped(tmp_path, capsys):
    part = load_data("digits_decoy").train
    edits = ink_edits(part, range(0, 1152, 48))
    slips = sorted([edits[3].image_id, edits[11].image_id])
    wrong = [replace(e, value=0.9 - e.value) if e.image_id in slips else e for e in edits]
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save_many(wrong)
    path = str(tmp_path / "edits.sqlite")
    options = ["--edits", path, "--propagate", "true", "--propagate_steps", "150", "--doubted", "drop"]
    trainer = Trainer(settings(tmp_path, *options))
    assert sorted(trainer.facts["propagation"]["look again at"]) == slips
    assert trainer.facts["edits"]["doubted and dropped"] == 2
    told = capsys.readouterr().out
    assert "% of the cells of 24 edits" in told and "look again at train/" in told
    assert "2 doubted and dropped" in told and all(name in told for name in slips)
    assert not set(slips) & set(trainer.train.part.ids)
    with EditStore(path, readonly=True) as store:  # a person's word stays
        assert store.current_all()[slips[0]].author == "person"
    with pytest.raises(UserError, match="DOUBTED=drop needs PROPAGATE=true"):
        settings(tmp_path, "--edits", path, "--doubted", "drop")


def test_too_few_edits_are_refused(tmp_path):
    part = load_data("digits_decoy").train
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save_many(ink_edits(part, [0, 1, 2]))
    with pytest.raises(UserError, match="at least 4 edited training images; there are 3"):
        Trainer(settings(tmp_path, "--edits", str(tmp_path / "edits.sqlite"), "--propagate", "true"))
    with pytest.raises(UserError, match="PROPAGATE is given without EDITS"):
        settings(tmp_path, "--propagate", "true")


def test_edits_that_say_one_thing_are_refused(tmp_path):
    part = load_data("digits_decoy").train
    edits = [
        replace(e, value=np.full((6, 6), v, np.float32)) for v in (0, 0.9) for e in ink_edits(part, range(8))
    ]
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save_many(edits[8:])
    options = ["--edits", str(tmp_path / "edits.sqlite"), "--propagate", "true", "--propagate_steps", "1"]
    with pytest.raises(UserError, match="the same of every cell"):
        Trainer(settings(tmp_path, *options))


def test_the_network_that_is_copied_stays_as_it_is(tmp_path):
    part = load_data("digits_decoy").train
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save_many(ink_edits(part, range(8)))
    options = ["--edits", str(tmp_path / "edits.sqlite")]
    plain = Trainer(settings(tmp_path, *options)).model.state_dict()
    after = Trainer(
        settings(tmp_path, *options, "--propagate", "true", "--propagate_steps", "3")
    ).model.state_dict()
    assert all(torch.equal(plain[name], after[name]) for name in plain)
