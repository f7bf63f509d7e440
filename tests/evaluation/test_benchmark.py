"""The benchmark compares like with like: all variants compute what they are said to."""

import json
import subprocess
import sys

import torch
from helpers.runs import ROOT

from sigmoid_vit.evaluation.benchmark import variants


def test_variants_agree_where_they_should():
    table = variants("vit_tiny_patch16_224", 64, 2, torch.device("cpu"))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        out = {
            name: forward.eval()(images) if hasattr(forward, "eval") else forward(images)
            for name, (_, forward) in table.items()
        }
    torch.testing.assert_close(out["unedited"], out["timm"], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        out["edit all rows, all layers"], out["materialised, all layers"], atol=1e-5, rtol=0
    )
    assert not torch.allclose(out["edit cls, last block"], out["unedited"], atol=1e-5)
    assert not torch.allclose(out["edit all rows, all layers"], out["unedited"], atol=1e-5)


def test_the_script_writes_its_conditions_and_rows(tmp_path):
    command = [sys.executable, str(ROOT / "src/benchmark.py"), "--what", "step", "--out", str(tmp_path)]
    command += [
        "--model_name",
        "vit_tiny_patch16_224",
        "--img_size",
        "64",
        "--batch_size",
        "2",
        "--rounds",
        "2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(next(tmp_path.glob("step-*.json")).read_text())
    assert result["batch_size"] == 2 and result["device"] and result["versions"]["torch"]
    rows = result["variants"]
    assert len(rows) == 5 and all(r["median_ms"] > 0 and r["peak_mib"] > 0 for r in rows.values())
    assert rows["timm"]["ratio"] == 1 and rows["unedited"]["difference"] < 1e-5
    assert all(name in done.stdout for name in rows)
