"""One loop: the same curve however a batch is split, maps that move with their images, a stop in time."""

import json

import numpy as np
import pytest
import torch
from helpers.runs import curve, settings, shell, train
from helpers.step2 import prepared
from hypothesis import given
from hypothesis import strategies as st

from sigmoid_vit import UserError
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.training.loop import ClassificationLoss, micro_batches
from sigmoid_vit.training.trainer import Trainer

SGD = ["--opt", "sgd", "--lr", "0.05"]  # Adam turns rounding of vanishing gradients into full steps


@given(n=st.integers(1, 40), parts=st.integers(1, 4), world=st.integers(1, 5))
def test_micro_batches_hold_every_image_once_with_equal_weight(n, parts, world):
    batch = np.arange(100, 100 + n)
    batches = [batch, batch[: n // 2 + 1]]
    per_process = [micro_batches(batches, parts, rank, world) for rank in range(world)]
    assert len({len(mine) for mine in per_process}) == 1  # every process takes part in every step
    assert [micro.last for micro in per_process[0]] == ([False] * (parts - 1) + [True]) * 2
    first = [micro for mine in per_process for micro in mine[:parts]]
    assert sorted(i for micro in first if micro.weight for i in micro.index) == batch.tolist()
    assert {micro.weight for micro in first} <= {0.0, world / n}
    assert all(len(micro.index) for micro in first)


def assert_same_curve(a, b, tolerance):
    for one, other in zip(a, b, strict=True):
        assert one == pytest.approx(other, abs=tolerance)


def test_accumulated_batches_give_the_same_curve(tmp_path):
    options = [*SGD, "--epochs", "1", "--val_fraction", "0.5"]
    whole = curve(train(tmp_path / "whole", *options))
    for parts in ("3", "40"):
        assert_same_curve(curve(train(tmp_path / parts, *options, "--grad_accum", parts)), whole, 1e-4)


@pytest.mark.slow
def test_a_curve_with_edits_does_not_depend_on_the_split_of_a_batch(ink_store, tmp_path):
    options = ["--edits", ink_store, *SGD, "--edit_queries", "cls"]
    whole = curve(train(tmp_path / "whole", *options))
    assert_same_curve(curve(train(tmp_path / "parts", *options, "--grad_accum", "3")), whole, 2e-4)


@pytest.mark.slow
def test_two_processes_give_the_same_curve(tmp_path):
    one = shell(tmp_path, RUNS_NAME="one", EPOCHS="2", EDITS="of_step_2.sqlite", HITL="paper")  # not its own
    two = shell(tmp_path, RUNS_NAME="two", EPOCHS="2", IS_DATAPARALLEL="true")
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    assert json.loads((tmp_path / "two/config.json").read_text())["processes"] == 2
    assert_same_curve(curve(Run(tmp_path / "one")), curve(Run(tmp_path / "two")), 1e-4)


def test_geometry_moves_maps_with_images(ink_store, tmp_path):
    trainer = prepared(tmp_path, "--edits", ink_store, "--hflip", "1", "--crop_scale", "1")
    index, maps = torch.arange(4), trainer.edits.maps
    images, _, _ = next(trainer.train.batches([index.numpy()]))
    _, _, value, edited = trainer.loop.moved(images, index, index, epoch=0)
    assert torch.equal(edited, maps.edited[:4].flip(-1))
    torch.testing.assert_close(value, maps.value[:4].flip(-1))


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path, monkeypatch):
    original = ClassificationLoss.forward

    def poisoned(self, images, labels):
        losses, class_logits = original(self, images, labels)
        self.calls = getattr(self, "calls", 0) + 1
        return (losses * float("nan") if self.calls == 22 else losses), class_logits  # 19 steps an epoch

    monkeypatch.setattr(ClassificationLoss, "forward", poisoned)
    trainer = Trainer(settings(tmp_path, "--epochs", "3"))
    trainer.prepare()
    with pytest.raises(UserError, match=r"not finite in epoch 2, step 3.*loss nan.*lower LR"):
        trainer.fit()
    assert all(torch.isfinite(p).all() for p in trainer.network.model.parameters())
    assert torch.load(tmp_path / "run/last.pt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("opt, lr", [("adam", "1e-3"), ("adamw", "1e-3"), ("sgd", "0.05")])
def test_every_optimiser_learns(tmp_path, opt, lr):
    lines = curve(train(tmp_path, "--opt", opt, "--lr", lr, "--epochs", "3", "--warmup", "0"))
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["lr"] < 0.01 * float(lr) + float(lr) * 0.05  # the cosine's end
