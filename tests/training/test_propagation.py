"""Propagation: what edits erase is found on other images, better than trivially, or nothing is edited."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.runs import settings, train
from helpers.step2 import ink_edits, prepared, save_edits

from sigmoid_vit import UserError
from sigmoid_vit.data import ink_grid, load_data
from sigmoid_vit.edits.maps import EditMaps, load_edits
from sigmoid_vit.edits.store import PROPAGATED, EditStore
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network
from sigmoid_vit.training import cell_features
from sigmoid_vit.training.cell_features import LabelledCells
from sigmoid_vit.training.cell_features import cell_features as features_of
from sigmoid_vit.training.propagation import Propagation, Targets, propagate, save_propagated
from sigmoid_vit.training.propagation_report import Agreement, teach_most


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


def agreement_of(people, classifier):
    """Cells of images (rows), 1 for erased."""
    people, classifier = (torch.tensor(x)[:, None].bool() for x in (people, classifier))
    return Agreement.of(classifier, EditMaps(torch.where(people, 0.0, 0.9), torch.ones_like(people)))


def test_each_kind_of_cell_is_measured_beside_the_trivial_answer():
    found = agreement_of([[1, 0, 0, 0], [1, 0, 0, 0]], [[1, 1, 0, 0], [0, 0, 0, 0]]).as_dict()
    assert found["held-out images"] == 2
    assert found["trivial answer"] == "kept"
    assert found["cells right"] == pytest.approx(6 / 8)
    assert found["trivial cells right"] == pytest.approx(6 / 8)
    assert found["erased"]["precision"] == pytest.approx(1 / 2)
    assert found["erased"]["recall"] == pytest.approx(1 / 2)
    assert found["erased"]["trivial recall"] == 0
    assert found["kept"]["recall"] == pytest.approx(5 / 6)
    assert found["kept"]["trivial precision"] == pytest.approx(6 / 8)


def test_better_than_trivial_means_more_cells_right_and_not_by_chance():
    square = [[1, 0, 0, 0]] * 12
    assert agreement_of(square, square).beats_trivial
    assert not agreement_of(square, [[0, 0, 0, 0]] * 12).beats_trivial  # the trivial answer itself
    assert not agreement_of(square, [[1, 1, 0, 0]] * 12).beats_trivial  # as many wrong as right
    assert not agreement_of(square, [[1, 0, 0, 0]] + [[0, 0, 0, 0]] * 11).beats_trivial  # one image alone
    mostly_erased = [[1, 1, 1, 0]] * 12
    assert agreement_of(mostly_erased, mostly_erased).beats_trivial


def test_the_images_that_teach_most_are_the_least_certain_of_every_class_in_turn():
    part = digits().subset(np.flatnonzero(np.isin(digits().labels, [3, 5]))[:60])
    confidence = np.linspace(0, 1, len(part))
    first = teach_most(part, np.arange(len(part)), confidence)[:4]
    labels = [part.labels[part.ids.index(name)] for name in first]
    assert sorted(labels[:2]) == [3, 5]
    assert sorted(labels[2:]) == [3, 5]
    least = {part.ids[np.flatnonzero(part.labels == k)[0]] for k in (3, 5)}
    assert set(first[:2]) == least


# ---------------------------------------------------------------- cells and their classifier


def network_of(*options):
    """A network with random weights, and the digits as it takes them."""
    torch.manual_seed(0)
    network = Network.new(settings("unused", *options), digits().classes)
    return network, network.prepare(digits())


def squares(part, positions):
    """Edits that erase the grey square in the corner of these images, and nothing else."""
    maps, size = EditMaps.empty(len(part), (6, 6)), part.size[0]
    for i in positions:
        pixels = part.images[i, 0]
        for row, column in ((0, 0), (0, 5), (5, 0), (5, 5)):
            cell = pixels[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
            if cell.max() > 0 and size == 24:
                maps.edited[i, row, column] = True
    return maps


def test_features_do_not_depend_on_the_batch(monkeypatch):
    network, part = network_of()
    images = np.arange(0, 50, 5)
    whole = np.concatenate(list(features_of(network, part, images)))
    monkeypatch.setattr(cell_features, "BATCH_BYTES", 1)  # one image at a time
    single = list(features_of(network, part, images))
    assert len(single) == 10
    np.testing.assert_allclose(np.concatenate(single), whole, atol=1e-5)
    assert whole.shape[:2] == (10, 36)


def test_the_cells_that_are_learned_are_bounded_and_the_rarer_kind_goes_first(monkeypatch):
    network, part = network_of()
    maps = Targets.of(squares(part, range(60))).maps
    edited = np.flatnonzero(maps.has_edit)
    monkeypatch.setattr(cell_features, "MOST_CELLS", 500)
    cells = LabelledCells.of(network, part, maps, edited, seed=0)
    assert len(cells.features) == 500
    assert cells.erased.sum() == len(edited)  # a square each


@pytest.mark.slow
def test_random_maps_among_single_cells_do_not_hide_what_the_others_teach():
    """They erase far more cells than all true edits together."""
    network, part = network_of()
    few = np.arange(0, 1152, 24)
    maps, wrong = squares(part, few), few[::8]
    maps.edited[torch.from_numpy(wrong)] = (
        torch.rand(6, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    )
    propagation = propagate(network, part, maps)
    assert sorted(propagation.doubted) == wrong.tolist()
    assert propagation.report["agreement"]["better than trivial"]
    assert propagation.report["propagated"] > 0.8 * (len(part) - len(few))


def test_the_square_is_found_on_images_that_nobody_edited():
    network, part = network_of()
    few = np.arange(0, 1152, 24)
    propagation = propagate(network, part, squares(part, few))
    assert propagation.report["agreement"]["better than trivial"]
    others = np.setdiff1d(np.arange(len(part)), few)
    truth, found = squares(part, others), propagation.maps
    assert propagation.report["propagated"] > 0.8 * len(others)
    right = (found.edited & truth.edited).sum() / found.edited.sum()
    assert right > 0.9
    assert not found.has_edit[few].any()  # people's images are not touched
    again = propagate(network, part, squares(part, few))
    assert torch.equal(again.maps.edited, found.edited)  # the seed decides


def test_edits_that_teach_nothing_edit_nothing():
    network, part = network_of()
    maps = squares(part, np.arange(0, 1152, 24))
    rows = np.flatnonzero(maps.has_edit)
    random = np.random.default_rng(0)
    for i in rows:  # the same number of cells, anywhere
        maps.edited[i] = torch.from_numpy(random.permutation(maps.edited[i].flatten().numpy())).view(6, 6)
    propagation = propagate(network, part, maps)
    assert not propagation.maps.has_edit.any()
    assert "the edits do not teach where to erase" in propagation.says
    assert propagation.report["edit next"]
    with pytest.raises(UserError, match="PROPAGATE=false"):
        propagation.require_enough()


def test_what_a_person_left_as_it_is_stays_and_is_not_asked_for_again():
    network, part = network_of()
    few = np.arange(0, 1152, 24)
    maps, left = squares(part, few), np.arange(1, 1152, 2)
    maps.settled[few], maps.settled[left] = True, True
    maps.unchanged[left[::2]] = True
    propagation = propagate(network, part, maps)
    assert not propagation.maps.has_edit[left].any()
    r, ids = propagation.report, {part.part.ids[i] for i in left}
    assert len(few) + len(left) + r["propagated"] + sum(r["left"].values()) == len(part)
    assert not ids & set(r["edit next"])
    assert f"besides, {len(left)} that a person left without one" in propagation.says


def test_random_maps_are_doubted_and_good_edits_are_not():
    network, part = network_of()
    edits = ink_edits(part.part, range(0, 1152, 36))
    maps = EditMaps.empty(len(part), (6, 6))
    random = np.random.default_rng(0)
    at = [part.part.ids.index(edit.image_id) for edit in edits]
    wrong = at[::3]
    for i, edit in zip(at, edits, strict=True):
        value = torch.from_numpy(edit.value)
        if i in wrong:
            value = 0.9 * torch.from_numpy(random.integers(2, size=(6, 6)).astype(np.float32))
        maps.value[i], maps.edited[i] = value, True
    doubted = set(propagate(network, part, maps).doubted)
    assert len(doubted & set(wrong)) >= 0.9 * len(wrong)
    assert not doubted - set(wrong)


# ---------------------------------------------------------------- in the store


def edits_of(part, positions):
    """Propagated edits of the images at these positions."""
    maps = EditMaps.empty(len(part), (6, 6))
    maps.edited[positions] = True
    maps.propagated = maps.has_edit
    return Propagation(maps, np.full(len(part), 0.95), [], {})


def test_a_persons_word_always_wins(tmp_path):
    train = digits().subset(np.arange(6)).prepare((24, 24))
    part, path = train.part, tmp_path / "edits.sqlite"
    nothing = np.zeros((6, 6), dtype=bool)
    skipped = replace(ink_edits(part, [1])[0], edited=nothing, note="skipped: blurred")
    save_edits(path, [*ink_edits(part, [0]), skipped])
    save_propagated(path, train, edits_of(part, [0, 1, 2, 3, 4]), "note", "")
    with EditStore(path) as store:
        now = store.current_all()
        authors = dict(zip(part.ids[:5], ["person"] * 2 + [PROPAGATED] * 3, strict=True))
        assert {image_id: edit.author for image_id, edit in now.items()} == authors
        assert now[part.ids[2]].confidence == pytest.approx(0.95)
        assert now[part.ids[2]].note == "note"
        store.delete(part.ids[2], "person")  # rejected
    save_propagated(path, train, edits_of(part, [2, 3, 5]), "again", "")
    with EditStore(path, readonly=True) as store:
        assert set(store.current_all(PROPAGATED)) == {part.ids[3], part.ids[5]}  # 4 is not made again
        assert store.history(part.ids[4])[-1].deleted
        assert len(store.history(part.ids[0])) == 1
    maps, account = load_edits(str(path), part, (6, 6))
    assert account["used"] == 1
    assert account["without a marked cell"] == 1
    assert not maps.propagated.any()
    assert np.flatnonzero(maps.settled).tolist() == [0, 1, 2]  # edited, skipped, rejected
    maps, account = load_edits(str(path), part, (6, 6), propagated=True)
    assert account["used"] == 3
    assert account["propagated"] == 2
    assert np.flatnonzero(maps.propagated).tolist() == [3, 5]


# ---------------------------------------------------------------- trained


@pytest.fixture(scope="module")
def propagated(tmp_path_factory):
    """A run whose 24 edits were propagated to the other digits, and its options."""
    folder = tmp_path_factory.mktemp("propagated")
    path = save_edits(folder / "edits.sqlite", ink_edits(digits(), range(0, 1152, 48), "background"))
    options = [*propagating(path), "--epochs", "1"]
    train(folder, *options)
    return folder, options


def test_propagated_edits_agree_with_those_nobody_made(propagated):
    folder, _ = propagated
    facts = Run(folder / "run").facts()
    agreement, account = facts["propagation"]["agreement"], facts["edits"]
    assert agreement["held-out images"] == 24
    assert agreement["cells right"] > agreement["trivial cells right"]
    with EditStore(folder / "edits.sqlite", readonly=True) as store:
        edits = store.current_all(PROPAGATED)
    assert len(edits) == account["propagated"] > 500
    assert account["used"] == len(edits) + 24
    ink = dict(zip(digits().ids, ink_grid(digits()), strict=True))
    erased_ink = [(e.edited & ink[name]).sum() / ink[name].sum() for name, e in edits.items()]
    erased_rest = [(e.edited & ~ink[name]).sum() / (~ink[name]).sum() for name, e in edits.items()]
    assert np.mean(erased_ink) < 0.2
    assert np.mean(erased_rest) > 0.75
    assert all((edit.value == 0).all() for edit in edits.values())


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
    trainer = prepared(tmp_path, *propagating(path, "--doubted", "drop"))
    assert sorted(trainer.edits.facts["propagation"]["look again at"]) == slips
    assert trainer.edits.facts["edits"]["doubted and dropped"] == 2
    printed = capsys.readouterr().out
    assert "cross-validated on the 22 edited images left" in printed
    assert "2 doubted and dropped" in printed
    for name in slips:
        assert name in printed.partition("look again at")[2]
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
        prepared(tmp_path, *propagating(path))


@pytest.mark.slow
def test_where_step_2_stops_the_store_stays(tmp_path):
    edits = ink_edits(digits(), range(0, 1152, 48))
    random = np.random.default_rng(0)
    noise = [replace(e, value=0.9 * random.integers(2, size=(6, 6)).astype(np.float32)) for e in edits]
    path = save_edits(tmp_path / "edits.sqlite", noise)
    with pytest.raises(UserError, match="Step 2 does not go on"):
        prepared(tmp_path, *propagating(path))
    with EditStore(path, readonly=True) as store:
        assert len(store.history()) == 24
    assert not (tmp_path / "run").exists()
