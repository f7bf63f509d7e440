"""scripts/compare_explainers.py: a row for each map, of each run, and a picture."""

import subprocess
import sys

import pytest
from helpers.runs import ROOT, untrained_run


def test_it_writes_a_table_and_a_picture(tmp_path):
    pytest.importorskip("captum")
    pytest.importorskip("pytorch_grad_cam")
    folder = untrained_run(tmp_path).folder
    command = [sys.executable, "scripts/compare_explainers.py", "--runs", folder, folder, "--split", "val"]
    done = subprocess.run(
        [*command, "--images", "10", "--picture", tmp_path / "maps"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines()[2:]]
    assert rows[:3] == ["decision", "random", "rollout"]
    assert "Grad-CAM (grad-cam)" in rows
    assert done.stdout.splitlines()[2].count("± 0.00") == 3  # the same run twice
    assert (tmp_path / "maps.png").stat().st_size > 10_000
