"""What cannot work is said: one update an epoch, a network that is no better than one answer for all."""

import numpy as np
import pytest
from helpers.images import make_folder
from helpers.runs import settings

from sigmoid_vit import UserError
from sigmoid_vit.data import Part
from sigmoid_vit.training.advice import few_updates, majority_classifier
from sigmoid_vit.training.trainer import Trainer


def test_one_update_an_epoch_is_said(tmp_path):
    s = settings(tmp_path, "--batch_size", "512", "--epochs", "10")
    told = few_updates(1, 331, s)
    assert "BATCH_SIZE 512 takes all 331 training images at once" in told
    assert "changes only 10 times in 10 epochs" in told
    assert "to 32 for example" in told
    assert few_updates(2, 600, s) == ""


@pytest.mark.parametrize("accuracy, warns", [(0.6, True), (0.5, True), (0.7, False)])
def test_an_accuracy_that_one_answer_for_all_would_get_is_said(accuracy, warns):
    val = Part([*"abcde"], np.array([1, 1, 1, 0, 0]), ["cat", "dog"])
    told = majority_classifier(accuracy, val)
    assert bool(told) == warns
    assert ("'dog' for every image would get (0.6000)" in told) == warns


def test_training_says_both(tmp_path, capsys):
    data = make_folder(tmp_path / "data", {"a": 4, "b": 4})
    make_folder(data, {"a": 2, "b": 2}, "val")
    folder = ["--dataset", "folder", "--dataset_path", str(data), "--pretrained", "false", "--lr", "1e-9"]
    small = ["--model_kwargs", "patch_size=8", "depth=1", "embed_dim=16", "num_heads=1", "--img_size", "16"]
    trainer = Trainer(settings(tmp_path, *folder, *small, "--batch_size", "8", "--epochs", "1"))
    trainer.prepare()
    trainer.fit()
    said = capsys.readouterr().err
    assert "BATCH_SIZE 8 takes all 8 training images at once" in said
    best = trainer.run.history()[0]["val_accuracy"]
    assert ("majority classifier" in said) == (best <= 0.5)


def test_a_wrong_path_is_named_before_missing_weights(tmp_path):
    given = ["--dataset", "folder", "--dataset_path", str(tmp_path / "nowhere"), "--pretrained", "none.pt"]
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        Trainer(settings(tmp_path, *given)).prepare()
