"""An exported network computes what the run computes, or is not kept; the blocks of the page load it."""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import save_image
from PIL import Image

from sigmoid_vit import UserError
from sigmoid_vit.deployment import formats
from sigmoid_vit.deployment.export import ExportOptions, export_model
from sigmoid_vit.deployment.formats import FORMATS, ONNX
from sigmoid_vit.deployment.predict import predictions_of
from sigmoid_vit.deployment.standing_edit import StandingEditOptions
from sigmoid_vit.runs.network import Network

PAGE = Path(__file__).parents[2] / "docs/deployment.md"
THERE = [name for name in FORMATS if name != "onnx" or all(find_spec(package) for package in ONNX)]


def export(run, **options):
    return export_model(ExportOptions(run=str(run.folder), images=3, **options))


@pytest.fixture(scope="module")
def exports(various_sizes):
    """The folder with every format that can be made here."""
    for name in THERE:
        said = export(various_sizes, to=name)
        assert "largest difference of a class logit from the run's on 3 images (val)" in said
        assert "changes 0 answers" in said
    return various_sizes.folder / "export"


def test_the_blocks_of_the_page_load_every_format_and_answer_as_the_run(exports, various_sizes, monkeypatch):
    folder = exports.parent
    photo = save_image(folder / "photo.png", (37, 51), seed=5)
    (p,) = predictions_of(Network.of_run(various_sizes), [photo])
    monkeypatch.chdir(folder)
    known = {}
    first, *others = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    exec(compile(first.replace("export/onnx", f"export/{THERE[0]}"), PAGE.name, "exec"), known)
    assert len(others) == len(FORMATS)
    for block in others:
        if "onnx" in block and "onnx" not in THERE:
            continue
        exec(compile(block, PAGE.name, "exec"), known)
        class_logits = torch.as_tensor(known["class_logits"]).detach()
        torch.testing.assert_close(class_logits.softmax(1)[0], p, atol=1e-4, rtol=0)


def test_every_format_takes_batches_of_any_size(exports, various_sizes):
    network, x = Network.of_run(various_sizes), torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        for name in THERE:
            loaded = FORMATS[name].load(exports / name)
            for n in (1, 2, 5):
                torch.testing.assert_close(loaded(x[:n]), network.model(x[:n]), atol=1e-4, rtol=0)


def test_what_the_network_needs_is_told_beside_it(exports, various_sizes):
    for name in THERE:
        told = json.loads((exports / name / "preprocessing.json").read_text("utf-8"))
        assert told["classes"] == various_sizes.classes
        assert told["size"] == [32, 32]
        assert told["checked"]["largest difference of class logits"] <= told["checked"]["tolerance"]


def test_a_standing_edit_is_exported_inside(equal_sizes, tmp_path):
    mask = np.full((4, 4), 255, np.uint8)
    mask[1, 2] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    given = str(tmp_path / "mask.png")
    said = export(equal_sizes, to="torch_export", edit=given, out=str(tmp_path / "out"))
    assert "The standing edit is inside: 1 of 16 cells edited, 1 of them erased" in said
    network, x = Network.of_run(equal_sizes), torch.randn(3, 3, 32, 32)
    edit = StandingEditOptions(edit=given).standing_edit(network)
    with torch.no_grad():
        found, expected = FORMATS["torch_export"].load(tmp_path / "out")(x), network.model(x, edit=edit)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        assert (network.model(x) - expected).abs().max() > 1e-4
    with pytest.raises(
        UserError, match="--to timm has no place for an edit; onnx and torch_export can hold one"
    ):
        export(equal_sizes, to="timm", edit=given)


def test_an_export_that_differs_is_not_kept(equal_sizes, tmp_path, monkeypatch):
    def scaled(folder):
        model = FORMATS["timm"].load(folder)
        return lambda images: 1.5 * model(images)

    wrong = formats.Format(FORMATS["timm"].write, scaled, holds_edit=False)
    monkeypatch.setitem(FORMATS, "safetensors", wrong)
    with pytest.raises(
        UserError, match=r"differs from the run's by .*; allowed is 0.001, so nothing was kept"
    ):
        export(equal_sizes, to="safetensors", out=str(tmp_path / "out"))
    assert not any(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused(equal_sizes, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="is there already and is never overwritten"):
        export(equal_sizes, to="timm", out=str(tmp_path))
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(
        UserError, match=r"--to onnx needs onnxscript: pip install onnx onnxscript onnxruntime"
    ):
        export(equal_sizes, to="onnx", out=str(tmp_path / "o"))
    bare = shutil.copytree(
        equal_sizes.folder, tmp_path / "bare", ignore=shutil.ignore_patterns("best.pt", "export")
    )
    with pytest.raises(UserError, match=r"has no best\.pt"):
        export_model(ExportOptions(run=str(bare), to="timm"))
