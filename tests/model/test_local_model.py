"""local_model_test.py says "equal" of equal models only."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

from sigmoid_vit.model.checkpoints import save_checkpoint

ROOT = Path(__file__).parents[2]
TINY = ["--model_name", "test_vit", "--batch_size", "2"]


@pytest.fixture
def script(monkeypatch):
    """Call the script's own main with arguments; returns its module."""
    monkeypatch.syspath_prepend(ROOT)
    import local_model_test

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["local_model_test.py", *map(str, arguments)])
        local_model_test.main()

    call.module = local_model_test
    return call


@pytest.fixture
def weights(tmp_path):
    """A folder with random weights of the tiny model."""
    state = timm.create_model("test_vit").state_dict()
    save_checkpoint(tmp_path / "test_vit.pt", {key: torch.randn_like(value) for key, value in state.items()})
    return tmp_path


def test_equal_models_are_reported_with_their_figures(script, weights, capsys):
    script(*TINY, "--save_dir", weights)
    out = capsys.readouterr().out
    assert f"{weights / 'test_vit.pt'} -> timm: 80 keys loaded\n" in out
    assert f"{weights / 'test_vit.pt'} -> this model: 80 keys loaded\n" in out
    parameters = sum(parameter.numel() for parameter in timm.create_model("test_vit").parameters())
    assert f"parameters: {parameters:,}\n" in out
    assert "largest difference of class logits: " in out
    assert "of timm's (batch 2" in out
    assert out.endswith("equal within 1e-05 x the largest logit\n")


@pytest.mark.parametrize("model_name", ["test_vit", "test_vit2", "deit_tiny_distilled_patch16_224"])
def test_random_weights_need_no_file(script, tmp_path, capsys, model_name):
    script("--model_name", model_name, "--batch_size", 1, "--random", "--save_dir", tmp_path)
    assert "equal within" in capsys.readouterr().out


@pytest.mark.parametrize("change", [1e-3, float("nan"), float("inf")])
def test_a_difference_in_one_weight_fails(script, monkeypatch, capsys, change):
    def with_a_changed_weight(model, images):
        if model is changed[0]:
            with torch.no_grad():
                model.head.bias[0] = model.head.bias[0] + change
        return original(model, images)

    changed, original, create = [], script.module.model_output, script.module.create_model
    monkeypatch.setattr(
        script.module, "create_model", lambda name: changed.append(create(name)) or changed[0]
    )
    monkeypatch.setattr(script.module, "model_output", with_a_changed_weight)
    with pytest.raises(script.module.UserError, match="the models differ by more than"):
        script(*TINY, "--random")
    assert "equal within" not in capsys.readouterr().out


def test_without_a_file_the_script_gives_the_command_and_exit_code_1(tmp_path):
    command = [sys.executable, ROOT / "local_model_test.py", "--model_name", "test_vit"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        "error: models/test_vit.pt does not exist; "
        "fetch it with: python3 src/load_pretrained.py --model_name test_vit, "
        "or train from random weights with PRETRAINED=false\n"
    )
