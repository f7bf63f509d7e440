"""A run keeps the images of its parts: whatever happens to the folder, none moves from one to another."""

import json
import shutil
from importlib.metadata import version

import numpy as np
import pytest
from helpers.images import make_folder
from helpers.runs import settings, untrained_run
from PIL import Image

from sigmoid_vit import UserError
from sigmoid_vit.data import load_data
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.kept_images import COMPARED, KeptImages, _compared
from sigmoid_vit.training.trainer import Trainer

SMALL = ["--model_name", "vit_tiny_patch16_224", "--model_kwargs", "patch_size=8", "embed_dim=24", "depth=1"]
SMALL += [
    "num_heads=2",
    "--img_size",
    "16",
    "--pretrained",
    "false",
    "--batch_size",
    "16",
    "--val_fraction",
    "0.2",
]


@pytest.fixture
def place(tmp_path):
    """A folder with 2 classes of 20 images, and a run on it."""
    make_folder(tmp_path / "images", {"a": 20, "b": 20})
    return tmp_path


def options(place):
    return ["--dataset", "folder", "--dataset_path", str(place / "images"), *SMALL]


@pytest.fixture
def run(place):
    return untrained_run(place, *options(place))


def ids(data):
    return data.train.ids, data.val.ids


def test_a_file_that_comes_or_goes_moves_no_image(run, place, capsys):
    train, val = ids(run.open_data())
    assert capsys.readouterr().err == ""
    images = place / "images/train"
    shutil.copy(images / "a/00.png", images / "a/000.png")
    shutil.copy(images / "a/00.png", images / "b/zz.png")
    (place / "images" / val[0]).unlink()
    (place / "images" / train[0]).unlink()
    assert ids(run.open_data()) == (train[1:], val[1:])
    told = capsys.readouterr().err
    assert f"1 of train are gone ({train[0]})" in told
    assert f"1 of val are gone ({val[0]})" in told
    assert "2 are new and not used, a new Step 1 would use them (train/a/000.png, train/b/zz.png)" in told
    assert load_data("folder", place / "images", 0.2).val.ids != val[1:]  # what a new cut would make of it


def test_step_2_and_resume_take_the_images_of_step_1(run, place, capsys):
    train, val = ids(run.open_data())
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(place / "images" / train[3])
    (place / "images" / train[0]).unlink()
    more = ["--first_step", str(run.folder), "--control", "no_edits", "--runs_name", "two", "--epochs", "1"]
    second = Trainer(settings(place, *options(place), *more))
    second.prepare()
    second.fit()
    told = capsys.readouterr().err
    assert f"1 of train are gone ({train[0]})" in told
    assert f"1 of 39 compared are another image now ({train[3]})" in told
    assert ids(Run(place / "two").open_data()) == (train[1:], val)
    assert "gone" not in capsys.readouterr().err
    with pytest.raises(
        UserError, match=r"run cannot be resumed, .*1 of train are gone.*another image now.*Restore"
    ):
        Trainer(settings(place, *options(place), "--resume")).prepare()


def test_other_versions_are_noted_on_resume(run, place, capsys):
    def resume():
        Trainer(settings(place, *options(place), "--resume")).prepare()
        return capsys.readouterr().err

    assert "was made with" not in resume()
    config = json.loads(run.config.read_text())
    config["versions"]["torch"] = "1.0"
    del config["crc32"], config["images_sha256"]  # as an earlier version wrote it
    run.config.write_text(json.dumps(config))
    assert f"note: {run.folder} was made with torch 1.0, now {version('torch')}" in resume()


def test_a_renamed_class_never_shifts_the_labels(run, place):
    (place / "images/train/a").rename(place / "images/train/c")
    for use in (run.open_data, lambda: Trainer(settings(place, *options(place), "--resume")).prepare()):
        with pytest.raises(UserError, match=r"missing now: a; not known to it: c"):
            use()


def test_a_part_without_images_is_an_error_with_its_number(run, place):
    for name in ids(run.open_data())[1]:
        (place / "images" / name).unlink()
    with pytest.raises(UserError, match=r"none of the 8 images that .* has in val is left in .*images"):
        run.open_data()


def test_what_is_kept_is_checked(run):
    content = run.images.read_bytes()
    run.images.write_bytes(content.replace(b"val,train/a", b"train,train/a", 1))
    with pytest.raises(UserError, match=r"images.csv, which says what is in train and val, is damaged"):
        run.open_data()
    run.images.unlink()
    with pytest.raises(UserError, match="is missing; restore it"):
        run.open_data()
    run.images.write_bytes(content)
    assert run.open_data()


def test_of_many_images_some_are_compared():
    assert len(_compared(COMPARED)) == len(_compared(10 * COMPARED + 7)) == COMPARED
    assert len(_compared(3)) == 3
    assert len(_compared(0)) == 0


def test_a_name_may_hold_whatever_a_file_name_can(tmp_path):
    odd = ['train/a/1,2".png', "train/a/x\ny.png", "train/b/\u56db\u89d2.png"]
    kept = KeptImages({"train": odd}, dict(zip(odd, "aab", strict=True)), {odd[0]: "f" * 64})
    kept.write(tmp_path / "images.csv")
    assert KeptImages.read(tmp_path / "images.csv") == kept


def test_a_run_keeps_the_order_of_its_classes(tmp_path, monkeypatch):
    """Made when class names that are numbers were in the order of letters."""
    for part in ("train", "test"):
        make_folder(tmp_path / "images", {"10": 2, "9": 2, "2": 2}, part=part)
    with monkeypatch.context() as before:
        before.setattr("sigmoid_vit.data.folder.in_order", sorted)
        run = untrained_run(tmp_path, *options(tmp_path), "--val_fraction", "0")
    assert run.classes == ["10", "2", "9"]
    data = run.open_data()
    assert data.classes == data.train.classes == data.test().classes == ["10", "2", "9"]
    for part in (data.train, data.test()):
        for image_id, label in zip(part.ids, part.labels, strict=True):
            assert image_id.split("/")[1] == run.classes[label]
