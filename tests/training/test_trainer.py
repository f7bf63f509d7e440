"""One trainer: the same curve however a batch is split, resumed to the bit, nothing good overwritten."""

import json

import numpy as np
import pytest
import torch
from helpers.runs import curve, settings, shell, train
from hypothesis import given
from hypothesis import strategies as st

from sigmoid_vit import UserError
from sigmoid_vit.data import DATASETS
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.training.loop import ClassificationLoss, Loop
from sigmoid_vit.training.trainer import Trainer


@given(n=st.integers(1, 40), parts=st.integers(1, 4), world=st.integers(1, 5))
def test_shares_hold_every_image_once_with_equal_weight(n, parts, world):
    batch = np.arange(100, 100 + n)
    per_process = [shares([batch, batch[: n // 2 + 1]], parts, rank, world) for rank in range(world)]
    assert len({len(mine) for mine in per_process}) == 1  # every process takes part in every step
    assert [s.last for s in per_process[0]] == ([False] * (parts - 1) + [True]) * 2
    first = [s for mine in per_process for s in mine[:parts]]
    assert sorted(i for s in first if s.weight for i in s.index) == batch.tolist()
    assert {s.weight for s in first} <= {0.0, world / n} and all(len(s.index) for s in first)


def test_accumulated_batches_give_the_same_curve(tmp_path):
    sgd = ["--opt", "sgd", "--lr", "0.05"]  # Adam turns rounding of vanishing gradients into full steps
    whole = curve(train(tmp_path / "whole", *sgd))
    for parts in ("3", "40"):
        for a, b in zip(curve(train(tmp_path / parts, *sgd, "--grad_accum", parts)), whole, strict=True):
            assert a == pytest.approx(b, abs=1e-4)


def test_two_processes_give_the_same_curve(tmp_path):
    one = shell(tmp_path, RUNS_NAME="one", EPOCHS="2", EDITS="of_step_2.sqlite", HITL="paper")  # not its own
    two = shell(tmp_path, RUNS_NAME="two", EPOCHS="2", IS_DATAPARALLEL="true")
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    assert json.loads((tmp_path / "two/config.json").read_text())["processes"] == 2
    for a, b in zip(curve(Run(tmp_path / "one")), curve(Run(tmp_path / "two")), strict=True):
        assert a == pytest.approx(b, abs=1e-4)


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
    assert curve(cut) == curve(whole) and len(curve(cut)) == 3
    for name in ("best.pt", "last.pt"):
        a, b = (torch.load(run.folder / name, weights_only=True) for run in (cut, whole))
        assert a["epoch"] == b["epoch"]
        assert all(torch.equal(a["model"][k], b["model"][k]) for k in b["model"])


def test_a_log_line_without_its_checkpoint_is_taken_back(tmp_path):
    run = train(tmp_path, "--epochs", "3")
    state = torch.load(run.last, weights_only=True)
    torch.save({**state, "epoch": 1}, run.last)  # as if killed between log and checkpoint
    assert len(run.history()) == 3
    assert run.checkpoint_to_resume()["epoch"] == 1 and len(run.history()) == 1


def test_an_existing_run_is_never_overwritten(tmp_path):
    run = train(tmp_path, "--epochs", "1")
    before = {p: p.read_bytes() for p in run.folder.iterdir()}
    with pytest.raises(UserError, match=r"already exists.*--resume.*RUNS_NAME"):
        Trainer(settings(tmp_path))
    with pytest.raises(
        UserError, match=r"other settings: EPOCHS was 1, is now 2; .*LR|EPOCHS was 1, is now 2"
    ):
        Trainer(settings(tmp_path, "--resume"))
    with pytest.raises(UserError, match="no run to resume"):
        Trainer(settings(tmp_path / "elsewhere", "--resume"))
    assert before == {p: p.read_bytes() for p in run.folder.iterdir()}


def test_a_failed_start_fetches_nothing_and_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("sigmoid_vit.training.open_data", lambda *_: pytest.fail("looked for data first"))
    with pytest.raises(UserError, match=r"load_pretrained\.py --model_name vit_tiny_patch16_224"):
        Trainer(settings(tmp_path, "--pretrained", "")).fit()
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path, monkeypatch):
    original = ClassificationLoss.forward

    def poisoned(self, images, labels):
        losses, class_logits = original(self, images, labels)
        self.calls = getattr(self, "calls", 0) + 1
        return (losses * float("nan") if self.calls == 22 else losses), class_logits  # 19 steps an epoch

    monkeypatch.setattr(ClassificationLoss, "forward", poisoned)
    trainer = Trainer(settings(tmp_path, "--epochs", "3"))
    with pytest.raises(UserError, match=r"not finite in epoch 2, step 3.*loss nan.*lower LR"):
        trainer.fit()
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    assert torch.load(tmp_path / "run/last.pt", weights_only=True)["epoch"] == 1


def test_the_best_validation_epoch_is_kept_and_the_test_part_stays_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        DATASETS["digits_decoy"], "test", lambda *_: pytest.fail("training opened the test part")
    )
    run = train(tmp_path, "--epochs", "4", "--seed", "3")
    scores = [line["val_accuracy"] for line in run.history()]
    best = torch.load(run.best, weights_only=True)
    assert best["epoch"] == scores.index(max(scores)) + 1 and best["val_accuracy"] == max(scores)
    config = json.loads(run.config.read_text())
    assert config["images"]["train"] + config["images"]["val"] == 1297 and len(config["classes"]) == 10
    assert config["settings"]["opt"] == "adamw" and config["versions"]["torch"]


def test_without_a_validation_part_the_last_epoch_is_kept(tmp_path):
    run = train(tmp_path, "--val_fraction", "0")
    best, last = (torch.load(p, weights_only=True) for p in (run.best, run.last))
    assert best["epoch"] == last["epoch"] == 2
    assert all(torch.equal(best["model"][k], last["model"][k]) for k in last["model"])


def test_the_seed_decides(tmp_path):
    a, b, c = (curve(train(tmp_path / n, "--seed", s)) for n, s in (("a", "1"), ("b", "1"), ("c", "2")))
    assert a == b != c


@pytest.mark.parametrize("opt, lr", [("adam", "1e-3"), ("adamw", "1e-3"), ("sgd", "0.05")])
def test_every_optimiser_learns(tmp_path, opt, lr):
    lines = curve(train(tmp_path, "--opt", opt, "--lr", lr, "--epochs", "3", "--warmup", "0"))
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["lr"] < 0.01 * float(lr) + float(lr) * 0.05  # the cosine's end


@pytest.mark.parametrize(
    "args, says",
    [
        (["--dataset", "mnist"], r"'mnist'.*cifar10.*digits_decoy"),
        (["--learning_rate", "1"], r"unknown setting --learning_rate; the settings are .*--lr"),
        (["--epoch", "3"], "did you mean --epochs"),
        (["--opt", "lion"], r"'lion'.*adam.*sgd"),
        (["--epochs", "0"], "EPOCHS is 0; it must be at least 1"),
        (["--epochs", "many"], "invalid int value: 'many'"),
        (["--val_fraction", "2"], "VAL_FRACTION is 2.0; it must be between 0 and 0.9"),
        (["--lr", "0"], "LR is 0.0"),
        (["--wandb", "maybe"], "neither true nor false"),
        (["--model_kwargs", "depth"], "give key=value"),
        (["--seed", "-1"], "SEED is -1"),
        (["--runs_name", "../x"], "plain folder name"),
        (["--batch_size", "4", "--grad_accum", "8"], "BATCH_SIZE 4 is smaller than GRAD_ACCUM 8"),
    ],
)
def test_bad_settings_are_refused(tmp_path, args, says):
    with pytest.raises(UserError, match=says):
        settings(tmp_path, *args)


def test_bad_model_arguments_are_refused(tmp_path):
    for args, says in (
        (["--model_kwargs", "patchsize=4"], "timm cannot build.*patchsize"),
        (["--model_kwargs", "in_chans=1"], "timm cannot build"),
        (["--model_kwargs", "norm_layer=foo"], "timm cannot build"),
        (["--model_name", "resnet18"], "resnet18 is no Vision Transformer"),
        (["--model_name", "vit_smal"], "vit_smal.*did you mean"),
        (["--img_size", "2"], "timm cannot build"),
    ):
        with pytest.raises(UserError, match=says):
            Trainer(settings(tmp_path, *args))


def test_the_shell_script_fails_with_one_sentence(tmp_path):
    for variables, says in (
        ({"DATASET": "mnist"}, "mnist"),
        ({"IS_DATAPARALLEL": "yes"}, "must be true or false"),
        ({"DATASET": "folder", "DATASET_PATH": "nowhere", "PRETRAINED": "false"}, "nowhere"),
    ):
        result = shell(tmp_path, RUNS_NAME="bad", **variables)
        assert result.returncode != 0 and says in result.stderr
        assert "Traceback" not in result.stderr and result.stderr.count("\n") <= 1
    assert not list(tmp_path.iterdir())


def test_wandb_offline_logs_without_ever_holding_the_key(tmp_path):
    key = "0123456789abcdef0123456789abcdef01234567"
    result = shell(tmp_path, WANDB="true", WANDB_MODE="offline", WANDB_KEY=key, RUNS_NAME="w", EPOCHS="1")
    assert result.returncode == 0, result.stderr
    offline = list((tmp_path / "w").glob("wandb/offline-run-*/*.wandb"))
    assert len(offline) == 1 and b"val_accuracy" in offline[0].read_bytes()
    assert list((tmp_path / "w").glob("wandb/offline-run-*/files/media/images/*.png"))
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert not [p for p in files if key.encode() in p.read_bytes()]
    assert key not in result.stdout + result.stderr
    assert len(Run(tmp_path / "w").history()) == 1
    again = shell(tmp_path, WANDB="true", WANDB_MODE="offline", RUNS_NAME="w", EPOCHS="1", RESUME="true")
    assert again.returncode == 0, again.stderr
    runs = (tmp_path / "w").glob("wandb/offline-run-*")
    assert {path.name.rpartition("-")[2] for path in runs} == {(tmp_path / "w/wandb.id").read_text()}


def test_wandb_that_cannot_start_leaves_nothing(tmp_path):
    result = shell(
        tmp_path, WANDB="true", WANDB_MODE="online", WANDB_BASE_URL="http://127.0.0.1:9", EPOCHS="1"
    )
    assert result.returncode == 1 and "WANDB_MODE=offline" in result.stderr
    assert not list(tmp_path.iterdir())
