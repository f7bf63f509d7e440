"""The benchmark compares like with like: all variants compute what they are said to."""

import json
import subprocess
import sys

import pytest
import torch
from helpers.runs import ROOT

from sigmoid_vit import UserError
from sigmoid_vit.training.benchmark import BenchmarkOptions, hitl_variants, variants

CPU = torch.device("cpu")


def test_variants_agree_where_they_should():
    table = variants("vit_tiny_patch16_224", 64, 2, CPU)
    images, out = torch.randn(2, 3, 64, 64), {}
    with torch.no_grad():
        for name, (model, forward) in table.items():
            model.eval()
            out[name] = forward(images)
    materialised = out["materialised, all layers"]
    torch.testing.assert_close(out["unedited"], out["timm"], atol=1e-5, rtol=0)
    torch.testing.assert_close(out["edit all rows, all layers"], materialised, atol=1e-5, rtol=0)
    for name in ("edit cls, last block", "edit all rows, all layers"):
        assert not torch.allclose(out[name], out["unedited"], atol=1e-5), name


def test_step_2_is_timed_beside_step_1():
    table = hitl_variants("vit_tiny_patch16_224", 32, 2, CPU)
    assert list(table) == [
        "Step 1",
        "Step 2, paper",
        "Step 2, full",
        "Step 2, full, whole images as well",
    ]
    for name, (_, loss) in table.items():
        assert torch.isfinite(loss(torch.randn(2, 3, 32, 32))), name


@pytest.mark.parametrize(
    "options, says",
    [
        (dict(what="walk"), "--what is 'walk'; it must be one of step, inference, hitl"),
        (dict(what="step", rounds=0), "--rounds is 0; it must be at least 1"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(UserError, match=says):
        BenchmarkOptions(**options)


@pytest.mark.slow
def test_the_script_writes_its_conditions_and_rows(tmp_path):
    options = dict(what="step", img_size=64, batch_size=2, rounds=2, model_name="vit_tiny_patch16_224")
    command = [sys.executable, str(ROOT / "src/benchmark.py"), "--out", str(tmp_path)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(next(tmp_path.glob("step-*.json")).read_text())
    assert result["batch_size"] == 2
    assert result["device"]
    assert result["versions"]["torch"]
    rows = result["variants"]
    assert len(rows) == 5
    for name, row in rows.items():
        assert row["median_ms"] > 0, name
        assert row["peak_mib"] > 0, name
        assert name in done.stdout
    assert rows["timm"]["ratio"] == 1
    assert rows["unedited"]["difference"] < 1e-5
