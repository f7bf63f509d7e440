"""The Python blocks of docs/recipes.md and docs/explainers.md run as they stand, one after the other."""

import re
from pathlib import Path

import pytest
import torch
from helpers.reference import tiny_model

DOCS = Path(__file__).parents[2] / "docs"
PACKAGES = ("transformers", "pytorch_grad_cam", "captum")


@pytest.mark.parametrize("page", ["recipes", "explainers"])
def test_the_recipes_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    torch.manual_seed(0)
    images, labels = torch.randn(3, 3, 32, 32), torch.tensor([0, 2, 4])
    value, edited = torch.rand(3, 4, 4), torch.rand(3, 4, 4) < 0.3
    known = dict(model=tiny_model(), images=images, labels=labels)
    known["loader"] = [(images, labels, value, edited)] * 2
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (DOCS / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert blocks
    for block in blocks:
        for package in PACKAGES:
            if f"from {package}" in block:
                pytest.importorskip(package)
        exec(compile(block, f"{page}.md", "exec"), known)  # as a reader runs it
