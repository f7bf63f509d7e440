"""Masks of label ids, as VOC, napari and CVAT write them: which values are the object."""

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers.images import make_folder
from helpers.runs import ROOT
from PIL import Image

from sigmoid_vit.annotations.mask_files import MaskValues, read_mask

IDS = np.zeros((40, 40), np.uint8)
IDS[:10], IDS[10:20], IDS[20] = 1, 2, 255


def saved(path, values, colours=None):
    image = Image.fromarray(values)
    if colours:
        image = image.convert("P")
        image.putpalette(colours)
    image.save(path)
    return path


def test_every_id_is_marked_and_the_border_is_not(tmp_path):
    meaning = MaskValues()
    assert np.array_equal(read_mask(saved(tmp_path / "a.png", IDS), meaning), (IDS % 255 > 0) * 1.0)
    assert meaning.label_ids == {1, 2}
    assert np.array_equal(read_mask(tmp_path / "a.png", MaskValues(("2",))), (IDS == 2) * 1.0)
    voc = [0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 756 + [224, 224, 192]
    indices = Image.fromarray(IDS, "P")
    indices.putpalette(voc)
    indices.save(tmp_path / "voc.png")
    assert np.array_equal(read_mask(tmp_path / "voc.png"), (IDS % 255 > 0) * 1.0)


@pytest.mark.parametrize("values", [IDS * 0 + np.arange(40, dtype=np.uint8) * 6, (IDS == 1) * np.uint8(255)])
def test_shades_and_black_and_white_are_no_ids(tmp_path, values):
    meaning = MaskValues()
    expected = values.astype(np.float32) / 255
    assert np.array_equal(read_mask(saved(tmp_path / "a.png", values), meaning), expected)
    assert not meaning.label_ids


@pytest.mark.slow
def test_the_import_says_which_ids_it_took(tmp_path):
    make_folder(tmp_path / "d", {"a": 2, "b": 2}, size=(40, 40))
    for name, value in (("a", 1), ("b", 2)):
        for i in range(2):
            path = tmp_path / f"m/train/{name}/0{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            saved(path, (IDS == 1) * np.uint8(value))

    def imported(*more):
        command = [sys.executable, ROOT / "src/import_edits.py", "--from", "masks", "m", "--grid", "4x4"]
        command += [
            "--dataset",
            "folder",
            "--dataset_path",
            "d",
            "--val_fraction",
            "0",
            "--edits",
            "e.sqlite",
        ]
        done = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout, json.loads((tmp_path / "e.sqlite.account.json").read_text())

    told, account = imported()
    assert "masks of label ids 2: all of them are marked" in told
    assert len(account["edited"]) == 4
    told, account = imported("--mask_value", "2")
    assert account["without"]["empty"] == ["train/a/00.png", "train/a/01.png"]
