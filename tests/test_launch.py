"""The shell scripts: each setting, from outside or pasted in, becomes an option of src/train.py."""

import os
import shutil
import subprocess
import sys
from dataclasses import fields

import pytest
from helpers.runs import ROOT

from sigmoid_vit.runs.settings import Settings

STEP_1, STEP_2 = "run_vit_training.sh", "run_vit_hitl_training.sh"
ANSWER = '#!/bin/sh\n[ "$1" = -c ] && exit 0\nprintf "%s\\n" "$@"\n'  # in the place of python3


@pytest.fixture
def house(tmp_path):
    """A copy of what the scripts read, beside a python3 that prints its arguments."""
    for name in (STEP_1, STEP_2, "scripts/launch.sh", "src/sigmoid_vit/runs/settings.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / "bin/python3"
    python.parent.mkdir()
    python.write_text(ANSWER)
    python.chmod(0o755)
    return tmp_path


def options(house, script=STEP_1, *args, **variables):
    """The options that train.py is called with, and their values."""
    env = {"PATH": f"{house / 'bin'}:{os.environ['PATH']}", **variables}
    command = ["bash", str(house / script), *args]
    lines = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines.pop(0) == "src/train.py"
    found, name = {}, None
    for line in lines:
        name = line[2:] if line.startswith("--") else name
        found.setdefault(name, [])
        found[name] += [] if line.startswith("--") else [line]
    return found


def test_every_setting_reaches_training_from_outside(house):
    names = [f.name for f in fields(Settings)]
    reserved = "result_dir"  # its name is the notebook's for a run
    found = options(house, STEP_2, **{name.upper(): f"a {name}" for name in names})
    for name in names:
        expected = None if name == reserved else [f"a {name}"]
        if name.endswith("_kwargs"):
            expected = ["a", name]  # several words on purpose
        assert found.get(name) == expected, name


def test_a_misspelt_setting_is_said(house):
    (house / "bin/python3").write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec "{sys.executable}" "$@"\n')
    given = {"EPOCS": "2", "RUN_NAME": "x", "EPOCHS": "2", "HOME": "/", "WANDB_MODE": "offline"}
    env = {"PATH": f"{house / 'bin'}:{os.environ['PATH']}", **given}
    done = subprocess.run(["bash", str(house / STEP_1)], env=env, capture_output=True, text=True)
    assert done.stderr.splitlines() == [
        "warning: EPOCS is no setting and has no effect; did you mean EPOCHS?",
        "warning: RUN_NAME is no setting and has no effect; did you mean RUNS_NAME?",
    ]


def test_step_1_takes_nothing_of_step_2(house):
    taken = options(
        house, EDITS="e.sqlite", FIRST_STEP="result/x", HITL="paper", PROPAGATE="true", CONTROL="none"
    )
    assert not {"edits", "first_step", "hitl", "propagate", "control"} & taken.keys()


def test_the_run_is_named_after_its_data_set_or_first_step(house):
    assert options(house)["runs_name"] == ["cifar10_FT"]
    assert options(house, DATASET="cub200")["runs_name"] == ["cub200_FT"]
    assert options(house, STEP_2, FIRST_STEP="result/cub200_FT")["runs_name"] == ["cub200_FT_HITL"]


@pytest.mark.parametrize("place", ["PROJECTS_NAME=", 'RUNS_NAME="${RUNS_NAME:-${DATASET}'])
def test_a_block_pasted_into_the_script_decides(house, place):
    """As readers of other repositories do: above the first setting, or below the last."""
    block = 'DATASET="digits_decoy"\nMODEL_KWARGS="depth=2 num_heads=2"\nLR=1e-3\nWANDB="False"\n'
    script = (house / STEP_1).read_text()
    (house / STEP_1).write_text(script.replace(f"\n{place}", f"\n{block}{place}", 1))
    found = options(house)
    assert found["dataset"] == ["digits_decoy"]
    assert found["runs_name"] == ["digits_decoy_FT"]
    assert found["model_kwargs"] == ["depth=2", "num_heads=2"]
    assert found["lr"] == ["1e-3"]
    assert "batch_size" not in found  # the data set's own


def test_a_relative_path_is_the_callers_where_it_is_there(house, tmp_path, monkeypatch):
    caller = tmp_path / "elsewhere"
    (caller / "images").mkdir(parents=True)
    monkeypatch.chdir(caller)
    found = options(house, STEP_2, DATASET_PATH="images", FIRST_STEP="result/first", EDITS="/a/store")
    assert found["dataset_path"] == [str(caller / "images")]
    assert found["first_step"] == ["result/first"]  # of the repository, as in all commands of the pages
    assert found["edits"] == ["/a/store"]


def test_further_options_go_behind_the_name(house):
    assert options(house, STEP_1, "--weight_decay", "0.05", SEEDS="0,1")["weight_decay"] == ["0.05"]


def test_the_key_of_wandb_is_no_argument(house):
    lines = options(house, WANDB_KEY="canary")
    assert "canary" not in str(lines)
