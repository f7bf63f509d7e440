"""Edits go to Label Studio and CVAT, are what their own readers read, and come back as the same cells."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.marked_images import run_import, save
from helpers.runs import ROOT

from sigmoid_vit import UserError
from sigmoid_vit.annotations.tool_export import TOOLS, export_to_tool, on_pixels
from sigmoid_vit.edits.store import EditStore, StoredEdit
from sigmoid_vit.files import sha256

SIZES = {"train/cat/a b.jpg": (33, 47), "train/cat/ねこ.jpg": (60, 40), "train/dog/c.jpg": (40, 41)}
GRID = (5, 6)


@pytest.fixture
def folder(tmp_path):
    for image_id, size in SIZES.items():
        save(tmp_path / "d" / image_id, np.zeros((*size, 3), np.uint8))
    return tmp_path / "d"


def store_of(folder, author=lambda i: "mika"):
    """A store with random edits: some cells erased, some kept, some left."""
    random = np.random.default_rng(0)
    with EditStore(folder.parent / "e.sqlite") as store:
        for i, image_id in enumerate(SIZES):
            edited = random.random(GRID) < 0.6
            value = (random.random(GRID) < 0.5) * edited * np.float32(0.9)
            store.save(StoredEdit(image_id, sha256(folder / image_id), value, edited, author(i)))
    return EditStore(folder.parent / "e.sqlite", readonly=True)


def export(store, folder, tool, **changes):
    options = {"threshold": 0.5, "image_url": "/data/local-files/?d="} | changes
    with store:
        account = export_to_tool(store, tool, folder, folder.parent / "out", **options)
        return account, store.current_all()


@pytest.mark.parametrize("tool", TOOLS)
def test_the_cells_come_back(folder, tool):
    account, before = export(store_of(folder), folder, tool)
    assert account.written == sorted(SIZES)
    assert not (account.absent or account.changed or account.coarse)
    options = dict(mask_edit="labels", grid="5x6", val_fraction=0, edits=str(folder / "edits.sqlite"))
    _, after = run_import(folder, tool, folder.parent / "out", **options)
    for image_id, edit in before.items():
        assert np.array_equal(after[image_id].edited, edit.edited)
        assert np.array_equal(after[image_id].value, edit.value)


def test_cvat_reads_the_same_cells(folder):
    datumaro = pytest.importorskip("datumaro", reason="pip install datumaro")
    account, before = export(store_of(folder), folder, "cvat")
    folder.rename(folder.with_name("images"))  # where datumaro looks for them
    (folder.parent / "out").rename(folder.parent / "annotations.xml")
    read = datumaro.Dataset.import_from(str(folder.parent / "annotations.xml"), "cvat")
    names = [label.name for label in read.categories()[datumaro.AnnotationType.label]]
    assert names == ["keep", "erase"]
    assert {item.id + ".jpg" for item in read} == set(account.written)
    for item in read:
        edit, size = before[item.id + ".jpg"], SIZES[item.id + ".jpg"]
        for one in item.annotations:
            cells = edit.edited & ((edit.value >= 0.5) == (names[one.label] == "keep"))
            assert np.array_equal(one.image > 0, on_pixels(cells, size))


def test_label_studio_reads_the_same_cells(folder):
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason="pip install label-studio-sdk")
    LabelInterface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface
    _, before = export(store_of(folder, lambda i: "propagated" if i else "mika"), folder, "label_studio")
    interface = LabelInterface((folder.parent / "out.config.xml").read_text())
    tasks = json.loads((folder.parent / "out").read_text(encoding="utf-8"))
    for image_id, task in zip(sorted(SIZES), tasks, strict=True):
        edit = before[image_id]
        kind = "predictions" if edit.author == "propagated" else "annotations"
        assert interface.validate_task({"data": task["data"]})
        assert getattr(interface, f"validate_{kind.removesuffix('s')}")(task[kind][0])
        for region in task[kind][0]["result"]:
            cells = edit.edited & ((edit.value >= 0.5) == (region["id"] == "keep"))
            h, w = SIZES[image_id]
            mask = brush.decode_rle(region["value"]["rle"]).reshape(h, w, 4)[..., 3]
            assert np.array_equal(mask > 0, on_pixels(cells, (h, w)))


def test_what_is_left_out_is_told(folder):
    store = store_of(folder, lambda i: "propagated")
    (folder / "train/cat/ねこ.jpg").unlink()
    save(folder / "train/dog/c.jpg", np.ones((3, 3, 3), np.uint8))
    account, _ = export(store, folder, "cvat")
    text = account.text()
    assert text.startswith(f"{folder.parent / 'out'}: edits of 1 images, 1 of them propagated\n")
    assert "no such image file: 1 (train/cat/ねこ.jpg)" in text
    assert "not the one that was edited: 1 (train/dog/c.jpg)" in text
    assert 'source="auto"' in (folder.parent / "out").read_text()
    (folder.parent / "none").mkdir()
    with (
        pytest.raises(UserError, match="3 images are not in"),
        EditStore(folder.parent / "e.sqlite", readonly=True) as again,
    ):
        export_to_tool(again, "cvat", folder.parent / "none", "out", 0.5, "")


def test_images_with_too_few_pixels_are_named(tmp_path):
    save(tmp_path / "d/train/a/1.png", np.zeros((4, 7, 3), np.uint8))
    edit = StoredEdit(
        "train/a/1.png",
        sha256(tmp_path / "d/train/a/1.png"),
        np.zeros(GRID, np.float32),
        np.eye(5, 6) > 0,
        "m",
    )
    with EditStore(tmp_path / "e.sqlite") as store:
        store.save(edit)
        account = export_to_tool(store, "cvat", tmp_path / "d", tmp_path / "out", 0.5, "")
    assert account.coarse == ["train/a/1.png"]


@pytest.mark.slow
def test_the_script(folder):
    store_of(folder).close()
    script = [sys.executable, ROOT / "src/export_edits.py", "--edits", folder.parent / "e.sqlite"]
    command = [*script, "--to", "label_studio", "--images", folder, "--out", folder.parent / "tasks.json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert "edits of 3 images, 0 of them propagated" in done.stdout, done.stderr
    assert re.search("ねこ|%E3", (folder.parent / "tasks.json").read_text(encoding="utf-8"))
    wrong = subprocess.run([*map(str, command[:-4]), "--out", "x"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "--to TOOL goes with --images" in wrong.stderr
