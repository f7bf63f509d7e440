"""A run's folder and a store that the previous version wrote open, and go on."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from helpers.previous import CONFIG, LOG, SETTINGS, write_run, write_store

from sigmoid_vit.data import load_data
from sigmoid_vit.edits.maps import EditMaps, load_edits
from sigmoid_vit.edits.store import PROPAGATED, EditStore
from sigmoid_vit.runs.command_line import SettingsParser
from sigmoid_vit.runs.comparable import open_networks
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network
from sigmoid_vit.runs.settings import Settings
from sigmoid_vit.runs.tables import logged

IDS = ["train/13", "train/51", "train/146"]
BY_PROPAGATION = np.array([False, False, True])

GONE = {"propagate_steps"}  # propagation trains no network any more
# no groups, no consistency: as it was
ADDED = {"group_by": "", "checkpoint_minutes": 10.0, "hung_minutes": 30.0, "consistency": 0.0}


@pytest.fixture(scope="module")
def train():
    return load_data("digits_decoy").train


@pytest.fixture(scope="module")
def maps():
    """Value and edited of three edits on a 6 x 6 grid."""
    random = np.random.default_rng(0)
    return random.random((3, 6, 6), dtype=np.float32), random.random((3, 6, 6)) < 0.5


@pytest.fixture(scope="module")
def weights_and_run(tmp_path_factory, maps):
    folder = tmp_path_factory.mktemp("result") / "two"
    return write_run(folder, maps, IDS, BY_PROPAGATION), Run(folder)


@pytest.fixture
def run(weights_and_run):
    return weights_and_run[1]


@pytest.fixture
def store(tmp_path, train, maps):
    """A store with the three edits, and a second revision of the first that says deleted, then restored."""
    value, edited = maps
    rows = []
    for k, image_id in enumerate([*IDS, IDS[0], IDS[0]]):
        i = k if k < 3 else 0
        rows.append(
            {
                "revision": k + 1,
                "image_id": image_id,
                "image_sha256": train.sha256(train.ids.index(image_id)),
                "num_heads": None,
                "gh": 6,
                "gw": 6,
                "value": value[i].astype("<f4").tobytes(),
                "edited": np.packbits(edited[i]).tobytes(),
                "layers": '"all"' if k else "[0, 2]",
                "heads": "null" if k else "[1]",
                "queries": "all" if k else "cls",
                "author": "propagated" if BY_PROPAGATION[i] else "ねこ",
                "note": "a note",
                "weights_sha256": "ab" * 32,
                "confidence": 0.75 if BY_PROPAGATION[i] else None,
                "client_id": f"{k:032x}",
                "base": {3: 1, 4: 4}.get(k),
                "created": "2025-11-25T20:29:06.160+00:00",
                "deleted": int(k == 3),
            }
        )
    write_store(tmp_path / "edits.sqlite", rows)
    return tmp_path / "edits.sqlite"


def test_its_settings_are_read(run):
    kept = {name: SETTINGS[name] for name in SETTINGS if name not in GONE}
    assert run.settings().as_dict() == kept | ADDED


def test_every_setting_of_then_is_one_of_now():
    assert set(SETTINGS) - GONE <= {f.name for f in fields(Settings)}


def test_its_facts_are_read(run):
    assert run.facts() == CONFIG
    assert run.classes == CONFIG["classes"]
    assert run.history() == [LOG]
    assert logged([run.folder]) == {str(run.folder): {"accuracy": 0.15}}


@pytest.mark.parametrize("which", ["best", "last"])
def test_its_network_has_its_weights(weights_and_run, which):
    weights, run = weights_and_run
    state = Network.of_run(run, which).model.state_dict()
    for key, value in weights.items():
        assert torch.equal(state[key], value), key


def test_it_can_be_evaluated(run):
    data, part, network, _ = open_networks(run)
    assert data.classes == CONFIG["classes"]
    assert network.logits(network.prepare(part.subset(range(5)))).shape == (5, 10)


def test_its_edits_are_read_and_who_made_them(run, train, maps):
    value, edited = maps
    found = EditMaps.read(run.edits, train.ids)
    at = [train.ids.index(image_id) for image_id in IDS]
    assert np.flatnonzero(found.has_edit).tolist() == sorted(at)
    assert np.array_equal(found.value[at], value)
    assert np.array_equal(found.edited[at], edited)
    assert found.propagated[at].tolist() == BY_PROPAGATION.tolist()
    assert found.propagated.sum() == 1


def test_edits_are_written_as_they_were(run, train, tmp_path):
    """The other way round: the previous version reads what this one writes."""
    EditMaps.read(run.edits, train.ids).write(tmp_path / "edits.npz", train.ids)
    with np.load(run.edits) as before, np.load(tmp_path / "edits.npz") as after:
        assert sorted(after.files) == sorted(before.files)
        for name in before.files:
            assert np.array_equal(after[name], before[name]), name
            assert after[name].dtype.kind == before[name].dtype.kind, name


def test_it_can_be_resumed_and_be_the_first_step_of_another(run, store):
    parser = SettingsParser("")
    resumed = replace(run.settings(), result_dir=str(run.folder.parent), resume=True)
    assert Run.open(resumed).checkpoint_to_resume(cut_log=False)["epoch"] == 1
    second = parser.parse_settings(["--first_step", str(run.folder), "--edits", str(store)])
    assert second.pretrained == str(run.best)
    assert second.model_kwargs == SETTINGS["model_kwargs"]
    assert second.propagate == "false"


def test_its_store_is_read(store, train, maps):
    value, edited = maps
    with EditStore(store, readonly=True) as opened:
        history, current = opened.history(), opened.current_all()
    assert [edit.revision for edit in history] == [1, 2, 3, 4, 5]
    assert [edit.base for edit in history] == [None, None, None, 1, 4]
    assert [edit.deleted for edit in history] == [False, False, False, True, False]
    assert {name: edit.revision for name, edit in current.items()} == {IDS[0]: 5, IDS[1]: 2, IDS[2]: 3}
    assert (history[0].layers, history[0].heads, history[0].queries) == ([0, 2], [1], "cls")
    assert (current[IDS[2]].author, current[IDS[2]].confidence) == (PROPAGATED, 0.75)
    assert (current[IDS[0]].author, current[IDS[0]].note) == ("ねこ", "a note")
    for i, image_id in enumerate(IDS):
        assert np.array_equal(current[image_id].value, value[i])
        assert np.array_equal(current[image_id].edited, edited[i])


def test_training_takes_its_edits_with_and_without_the_propagated(store, train):
    people, account = load_edits(str(store), train, (6, 6))
    assert people.has_edit.sum() == account["used"] == 2
    everything, account = load_edits(str(store), train, (6, 6), propagated=True)
    assert everything.has_edit.sum() == account["used"] == 3
    assert account["propagated"] == everything.propagated.sum() == 1


def test_its_store_goes_on(store):
    with EditStore(store) as opened:
        edit = opened.current(IDS[1])
        assert opened.save(replace(edit, client_id=None, author="mika"), base=2).revision == 6
        assert opened.delete(IDS[2], "mika").base == 3
    with EditStore(store, readonly=True) as opened:
        assert len(opened.history()) == 7
        assert opened.current(IDS[1]).author == "mika"
        assert opened.current(IDS[2]) is None
