"""Logging to Weights & Biases: offline as well, without ever holding the key, nothing left when refused."""

import pytest
from helpers.runs import shell

from sigmoid_vit.runs.folder import Run

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.slow
def test_wandb_offline_logs_without_ever_holding_the_key(tmp_path):
    options = dict(WANDB="true", WANDB_MODE="offline", RUNS_NAME="w", EPOCHS="1")
    result = shell(tmp_path, WANDB_KEY=KEY, **options)
    assert result.returncode == 0, result.stderr
    (log,) = (tmp_path / "w").glob("wandb/offline-run-*/*.wandb")
    assert b"val_accuracy" in log.read_bytes()
    assert list((tmp_path / "w").glob("wandb/offline-run-*/files/media/images/*.png"))
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert not [p for p in files if KEY.encode() in p.read_bytes()]
    assert KEY not in result.stdout + result.stderr
    assert len(Run(tmp_path / "w").history()) == 1
    again = shell(tmp_path, RESUME="true", **options)
    assert again.returncode == 0, again.stderr
    runs = (tmp_path / "w").glob("wandb/offline-run-*")
    assert {path.name.rpartition("-")[2] for path in runs} == {(tmp_path / "w/wandb.id").read_text()}


def test_wandb_that_cannot_start_leaves_nothing(tmp_path):
    nowhere = "http://127.0.0.1:9"
    result = shell(tmp_path, WANDB="true", WANDB_MODE="online", WANDB_BASE_URL=nowhere, EPOCHS="1")
    assert result.returncode == 1
    assert "WANDB_MODE=offline" in result.stderr
    assert not list(tmp_path.iterdir())
