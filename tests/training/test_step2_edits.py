"""What Step 2 learns from: taken when a run begins, kept with it, and enough to change the decision."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.runs import accuracy, settings, train
from helpers.step2 import ink_edits, prepared, save_edits

from sigmoid_vit import UserError
from sigmoid_vit.data import load_data
from sigmoid_vit.edits.store import PROPAGATED, EditStore, StoredEdit
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.training.loop import ClassificationLoss
from sigmoid_vit.training.trainer import Trainer


def test_preparing_is_what_propagates(tmp_path):
    edits = ink_edits(load_data("digits_decoy").train, range(0, 1152, 48))
    path = save_edits(tmp_path / "edits.sqlite", edits)
    trainer = Trainer(settings(tmp_path, "--edits", path, "--epochs", "1", "--propagate", "true"))
    with EditStore(path, readonly=True) as store:
        assert not store.current_all(PROPAGATED)
    trainer.prepare()
    with EditStore(path, readonly=True) as store:
        assert store.current_all(PROPAGATED)
    assert "propagation" in trainer.edits.facts
    assert not trainer.run.folder.exists()


def test_a_narrower_scope_is_reported(tmp_path, capsys):
    part = load_data("digits_decoy").train
    value, edited = np.zeros((6, 6), np.float32), np.ones((6, 6), dtype=bool)
    heads = np.stack([value, value + 1])
    edits = [StoredEdit(part.ids[i], part.sha256(i), value, edited, "mika") for i in range(5)]
    edits[0] = replace(edits[0], layers=[2])
    edits[1] = replace(edits[1], queries="cls")
    edits[2] = replace(edits[2], value=heads, edited=np.stack([edited, edited]))
    edits[3] = replace(edits[3], heads=[1])
    trainer = prepared(tmp_path, "--edits", save_edits(tmp_path / "edits.sqlite", edits))
    assert trainer.edits.facts["edits"]["drawn for a narrower scope"] == 4
    assert "4 drawn for a narrower scope; EDIT_LAYERS and EDIT_QUERIES decide" in capsys.readouterr().out
    assert trainer.edits.maps.value[2].unique() == 0.5


@pytest.fixture
def every_fourth(ink_store, tmp_path):
    """A store with the edits of every fourth training digit."""
    with EditStore(ink_store, readonly=True) as store:
        edits = store.current_all()
    ids = load_data("digits_decoy").train.ids[::4]
    return save_edits(tmp_path / "edits.sqlite", (edits[image_id] for image_id in ids))


def test_the_control_without_edits_trains_on_the_same_images(every_fourth, tmp_path, capsys):
    options = ["--edits", every_fourth, "--epochs", "1"]
    real = prepared(tmp_path, *options)
    control = prepared(tmp_path, *options, "--control", "no_edits", "--runs_name", "control")
    assert control.train.part.ids == real.train.part.ids == load_data("digits_decoy").train.ids[::4]
    assert type(control.loop.loss) is ClassificationLoss
    assert control.loop.maps is None
    assert "control: the 292 images alone, without edits" in capsys.readouterr().out


def test_a_resumed_control_keeps_its_images(every_fourth, tmp_path):
    options = ["--edits", every_fourth, "--epochs", "1", "--control", "no_edits"]
    run = train(tmp_path, *options)
    assert run.unused_edits.exists()
    assert not run.edits.exists()
    (tmp_path / "edits.sqlite").unlink()
    assert len(prepared(tmp_path, *options, "--resume").train) == 292
    with pytest.raises(UserError, match=r"edits\.sqlite"):
        prepared(tmp_path, *options, "--runs_name", "other")


def test_full_edits_change_the_decision_and_controls_do_not(ink_store, tmp_path):
    """A short version of the proof: edits free the network from the squares; without them it stays fooled."""
    first = train(tmp_path, "--epochs", "10")
    options = ["--first_step", str(first.folder), "--edits", ink_store, "--epochs", "14"]
    scores = {}
    for name, extra in {"full": [], "no_edits": ["--control", "no_edits"]}.items():
        prepared(tmp_path, *options, *extra, "--runs_name", name).fit()
        scores[name] = accuracy(Run(tmp_path / name), "test")
        # the validation part shares the cue: its best epoch would be one that is still fooled
        assert torch.load(tmp_path / name / "best.pt", weights_only=True)["epoch"] == 14, name
    assert scores["no_edits"] < 0.2 < 0.4 < scores["full"], scores
