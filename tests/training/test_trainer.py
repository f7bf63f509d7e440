"""One trainer: cheap to make, resumed to the bit, nothing good overwritten, the test part closed."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch
from helpers.runs import ROOT, curve, settings, shell, train
from helpers.step2 import prepared

from sigmoid_vit import UserError
from sigmoid_vit.data import DATASETS, Part
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.training.loop import Loop
from sigmoid_vit.training.trainer import Trainer

TRAIN = (  # in a process of its own: what it has imported at the end
    "import sys; from sigmoid_vit.runs.command_line import SettingsParser; "
    "from sigmoid_vit.training.trainer import train; train(*SettingsParser('').parse_seeds()); "
    "print('imported:', *sys.modules)"
)


def state(folder):
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_the_constructor_is_cheap(tmp_path, monkeypatch):
    """It reads no image and no edit, makes no network, trains nothing and writes nothing."""
    for owner, name in (
        (DATASETS["digits_decoy"], "__init__"),
        (Part, "prepare"),
        (EditStore, "__init__"),
        (Loop, "__init__"),
        (torch.nn.Module, "__init__"),
    ):
        what = f"{owner.__name__}.{name} was called"
        monkeypatch.setattr(owner, name, lambda *_, what=what, **__: pytest.fail(what))
    before, options = state(tmp_path), ["--edits", str(tmp_path / "edits.sqlite"), "--propagate", "true"]
    assert not Trainer(settings(tmp_path, *options)).run.folder.exists()
    assert state(tmp_path) == before


def test_training_brings_neither_pictures_nor_evaluation(tmp_path):
    """Nothing but wandb needs them, and they take seconds to import."""
    options = ["--dataset", "digits_decoy", "--result_dir", str(tmp_path), "--epochs", "1"]
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, *options], cwd=ROOT / "src", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    imported = done.stdout.rpartition("imported:")[2].split()
    assert "sigmoid_vit.training.trainer" in imported
    for name in ("matplotlib", "sigmoid_vit.figures", "sigmoid_vit.evaluation", "sigmoid_vit.annotations"):
        assert name not in imported


@pytest.mark.parametrize("stop_in", [0, 1])
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path, monkeypatch, stop_in):
    options = ["--epochs", "3", "--model_kwargs", "patch_size=4", "embed_dim=32", "depth=2", "num_heads=2"]
    options += ["drop_path_rate=0.2", "--hflip", "0.5", "--crop_scale", "0.6"]
    whole = train(tmp_path / "whole", *options)
    original = Loop._update

    def interrupted(self, epoch, step, loss):
        original(self, epoch, step, loss)
        if (epoch, step) == (stop_in, 7):
            raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", *options)
    monkeypatch.setattr(Loop, "_update", original)
    for _ in range(2):  # the second time there is nothing left to do
        cut = train(tmp_path / "cut", *options, "--resume")
    assert len(curve(cut)) == 3
    assert curve(cut) == curve(whole)
    for name in ("best.pt", "last.pt"):
        a, b = (torch.load(run.folder / name, weights_only=True) for run in (cut, whole))
        assert a["epoch"] == b["epoch"], name
        for key in b["model"]:
            assert torch.equal(a["model"][key], b["model"][key]), (name, key)


def test_a_log_line_without_its_checkpoint_is_taken_back(tmp_path):
    run = train(tmp_path, "--epochs", "3")
    checkpoint = torch.load(run.last, weights_only=True)
    torch.save({**checkpoint, "epoch": 1}, run.last)  # as if killed between log and checkpoint
    assert len(run.history()) == 3
    assert run.checkpoint_to_resume()["epoch"] == 1
    assert len(run.history()) == 1


def test_an_existing_run_is_never_overwritten(tmp_path):
    run = train(tmp_path, "--epochs", "1")
    before = {p: p.read_bytes() for p in run.folder.iterdir()}
    with pytest.raises(UserError, match=r"already exists.*--resume.*RUNS_NAME"):
        Trainer(settings(tmp_path))
    with pytest.raises(UserError, match=r"other settings: EPOCHS was 1, is now 2"):
        Trainer(settings(tmp_path, "--resume"))
    with pytest.raises(UserError, match="no run to resume"):
        Trainer(settings(tmp_path / "elsewhere", "--resume"))
    assert before == {p: p.read_bytes() for p in run.folder.iterdir()}


def test_a_failed_start_fetches_nothing_and_leaves_no_folder(tmp_path, monkeypatch):
    fetched = "the data was fetched before the weights were known to be there"
    monkeypatch.setattr("sigmoid_vit.training.trainer.open_data", lambda *_: pytest.fail(fetched))
    with pytest.raises(UserError, match=r"load_pretrained\.py --model_name vit_small_patch16_224"):
        train(tmp_path, "--dataset", "cifar10", "--pretrained", "")
    assert not list(tmp_path.iterdir())


def test_the_best_validation_epoch_is_kept_and_the_test_part_stays_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        DATASETS["digits_decoy"], "test", lambda *_: pytest.fail("training opened the test part")
    )
    run = train(tmp_path, "--epochs", "4", "--seed", "3")
    scores = [line["val_accuracy"] for line in run.history()]
    best = torch.load(run.best, weights_only=True)
    assert best["epoch"] == scores.index(max(scores)) + 1
    assert best["val_accuracy"] == max(scores)


def test_config_json_says_what_a_run_was_made_with(tmp_path):
    config = json.loads(train(tmp_path, "--epochs", "1").config.read_text())
    assert config["images"]["train"] + config["images"]["val"] == 1297
    assert len(config["classes"]) == 10
    assert config["settings"]["opt"] == "adamw"  # the data set's own
    assert config["start_weights"] == "random weights"
    assert config["versions"]["torch"] == version("torch")


def test_without_a_validation_part_the_last_epoch_is_kept(tmp_path):
    run = train(tmp_path, "--val_fraction", "0")
    best, last = (torch.load(p, weights_only=True) for p in (run.best, run.last))
    assert best["epoch"] == last["epoch"] == 2
    for key in last["model"]:
        assert torch.equal(best["model"][key], last["model"][key]), key


def test_the_seed_decides(tmp_path):
    a, b, c = (curve(train(tmp_path / n, "--seed", s)) for n, s in (("a", "1"), ("b", "1"), ("c", "2")))
    assert a == b
    assert b != c


@pytest.mark.parametrize(
    "args, says",
    [
        (["--model_kwargs", "patchsize=4"], "timm cannot build.*patchsize"),
        (["--model_kwargs", "in_chans=1"], "timm cannot build"),
        (["--model_kwargs", "norm_layer=foo"], "timm cannot build"),
        (["--model_name", "resnet18"], "resnet18 is no Vision Transformer"),
        (["--model_name", "vit_smal"], "vit_smal.*did you mean"),
        (["--img_size", "2"], "timm cannot build"),
    ],
)
def test_bad_model_arguments_are_refused(tmp_path, args, says):
    with pytest.raises(UserError, match=says):
        prepared(tmp_path, *args)


@pytest.mark.parametrize(
    "variables, says",
    [
        ({"DATASET": "mnist"}, "mnist"),
        ({"IS_DATAPARALLEL": "yes"}, "must be true or false"),
        ({"DATASET": "folder", "DATASET_PATH": "nowhere", "PRETRAINED": "false"}, "nowhere"),
    ],
)
def test_the_shell_script_fails_with_one_sentence(tmp_path, variables, says):
    result = shell(tmp_path, RUNS_NAME="bad", **variables)
    assert result.returncode != 0
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") <= 1
    assert not list(tmp_path.iterdir())
