"""The data set `folder`: what counts as an image of which class, and what is wrong with a folder."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.edits import an_edit
from helpers.images import make_folder, save_image
from helpers.runs import untrained_run
from PIL import Image

from sigmoid_vit.annotations.sources import open_source
from sigmoid_vit.data import load_data
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.errors import UserError


def test_folder_lists_nested_and_hidden_files(tmp_path):
    make_folder(tmp_path, {"cat": 2, "dog": 1})
    save_image(tmp_path / "train" / "cat" / "more" / "deep.JPG")
    save_image(tmp_path / "elsewhere" / "x.bmp")
    (tmp_path / "train" / "dog" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for junk in (".DS_Store", "Thumbs.db", ".hidden/x.png"):
        (tmp_path / "train" / "cat" / junk).parent.mkdir(exist_ok=True)
        (tmp_path / "train" / "cat" / junk).write_bytes(b"junk")
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    data = load_data("folder", tmp_path, val_fraction=0)
    assert data.classes == ["cat", "dog"]
    assert data.val is None
    assert data.test_parts == []
    assert data.train.ids == [
        f"train/{p}"
        for p in ("cat/00.png", "cat/01.png", "cat/more/deep.JPG", "dog/00.png", "dog/link/x.bmp")
    ]
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert data.train.labels.dtype == np.int64
    assert len(data.train.prepare((8, 8))) == 5


def test_names_that_are_not_utf_8(tmp_path):
    """Of a zip from a Japanese Windows: usable everywhere, with text in place of the bytes."""
    folder, masks = (Path(os.fsdecode(str(tmp_path / part).encode() + b"_\x88")) for part in "im")
    (folder / "train").mkdir(parents=True)
    make_folder(tmp_path / "made", {"a": 12, "b": 12})
    for label, name in (("a", "a"), ("b", os.fsdecode("異常".encode("cp932")))):
        (tmp_path / "made/train" / label / "00.png").rename(tmp_path / f"made/train/{label}" / f"{name}.png")
        (tmp_path / "made/train" / label).rename(folder / "train" / name)
    shutil.copytree(folder, masks)
    for path in masks.rglob("*.png"):
        Image.new("L", (12, 10), 255).save(path)
    few = ["--pretrained", "false", "--img_size", "32", "--model_kwargs", "patch_size=8", "depth=1"]
    run = untrained_run(tmp_path, "--dataset", "folder", "--dataset_path", str(folder), *few)
    data = run.open_data()
    assert data.root == folder
    assert run.classes == data.classes == ["a", "\\x88\u064f\\xed"]  # two of the bytes are UTF-8 by chance
    assert "train/\\x88\u064f\\xed/\\x88\u064f\\xed.png" in data.all_ids
    with EditStore(tmp_path / "edits.sqlite") as edits:
        edits.save_many(an_edit(image_id) for image_id in data.all_ids)
        assert edits.current_all().keys() == set(data.all_ids)
    source = open_source("masks", [str(masks)], data, data.train)
    assert all(source.read(i) is not None for i in range(len(data.train)))


def test_masks_beside_the_images_are_no_images(tmp_path, capsys):
    make_folder(tmp_path, {"cat": 3, "dog": 2}, suffix=".jpg")
    cat, mask = tmp_path / "train/cat", np.zeros((12, 10), np.uint8)
    mask[3:6, 2:8] = 255
    Image.fromarray(mask).save(cat / "00.png")  # beside 00.jpg
    Image.fromarray(mask).save(cat / "01_mask.jpg")  # beside 01.jpg
    images = {"00.jpg", "01.jpg", "02.jpg"}
    Image.fromarray(mask).save(cat / "alone.png")
    Image.fromarray(mask).save(cat / "lone_mask.png")
    (cat / "02.png").write_bytes(b"damaged")  # said when it is read
    Image.fromarray(np.arange(120, dtype=np.uint8).reshape(12, 10)).save(cat / "01.png")  # grey, not a mask
    data = load_data("folder", tmp_path, val_fraction=0)
    found = {Path(name).name for name in data.train.ids if "/cat/" in name}
    assert found == images | {"alone.png", "lone_mask.png", "02.png", "01.png"}
    assert "2 masks beside their images" in capsys.readouterr().err
    assert data.masks_beside_images
    assert data.train.labels.tolist() == [0] * 7 + [1] * 2


def test_folder_uses_its_own_val_and_opens_test_only_when_asked(tmp_path, monkeypatch):
    for part in ("train", "val", "test"):
        make_folder(tmp_path, {"a": 3, "b": 3}, part)
    opened = []
    original = Image.open
    monkeypatch.setattr(
        Image, "open", lambda path, *args, **kw: opened.append(path) or original(path, *args, **kw)
    )
    data = load_data("folder", tmp_path)
    assert opened == []
    data.train.prepare((8, 8)), data.val.prepare((8, 8))
    assert {path.relative_to(tmp_path).parts[0] for path in opened} == {"train", "val"}
    assert data.test_parts == ["test"]
    assert len(data.train) == 6
    assert data.val.ids[0] == "val/a/00.png"
    data.test().prepare((8, 8))
    assert any("test" in path.relative_to(tmp_path).parts for path in opened)
    with pytest.raises(UserError, match=r"'clean'.*test"):
        data.test("clean")


@pytest.mark.parametrize("val", ["valid", "validation", "Val", "DEV"])
def test_parts_have_the_names_of_other_tools(tmp_path, val):
    for part in ("Train", val, "testing"):
        make_folder(tmp_path, {"cat": 2, "dog": 2}, part=part)
    data = load_data("folder", tmp_path)
    assert data.val.ids == [f"{val}/{c}/0{i}.png" for c in ("cat", "dog") for i in (0, 1)]
    assert (len(data.train), data.test_parts, len(data.test())) == (4, ["test"], 4)
    make_folder(tmp_path, {"cat": 2, "dog": 2}, part="train")
    with pytest.raises(UserError, match="Train and train: keep one train folder"):
        load_data("folder", tmp_path)


def test_what_other_tools_leave_beside_images_is_told_and_not_used(tmp_path, capsys):
    make_folder(tmp_path, {"cat": 2, "dog": 1})
    for name in ("00.json", "classes.txt", "00.xml", "@eaDir/00.png", ".ipynb_checkpoints/00.png"):
        (tmp_path / "train/cat" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "train/cat" / name).write_bytes((tmp_path / "train/cat/00.png").read_bytes())
    data = load_data("folder", tmp_path, val_fraction=0)
    assert data.train.ids == ["train/cat/00.png", "train/cat/01.png", "train/dog/00.png"]
    assert "3 files beside the images are not used" in capsys.readouterr().err
    (tmp_path / "train/cat/00.heic").write_bytes(b"an image that cannot be read")
    with pytest.raises(UserError, match=r"00\.heic: not an image file"):
        load_data("folder", tmp_path, val_fraction=0).train.prepare((8, 8))


def test_a_link_into_the_data_set_adds_no_images(tmp_path, capsys):
    make_folder(tmp_path / "all", {"cat": 2, "dog": 1})
    (tmp_path / "all/train/cat/up").symlink_to(tmp_path / "all", target_is_directory=True)
    (tmp_path / "all/train/dog/cats").symlink_to(tmp_path / "all/train/cat", target_is_directory=True)
    assert len(load_data("folder", tmp_path / "all", val_fraction=0).train) == 3
    assert capsys.readouterr().err.count("is not followed") == 2


def test_a_test_part_may_lack_a_class(tmp_path, capsys):
    make_folder(tmp_path, {"cat": 2, "dog": 2, "emu": 2})
    make_folder(tmp_path, {"dog": 1}, part="test")
    (tmp_path / "test/emu").mkdir()
    test = load_data("folder", tmp_path, val_fraction=0).test()
    assert (test.classes, test.labels.tolist()) == (["cat", "dog", "emu"], [1])
    assert "no images of cat, emu; the figures are of the other classes" in capsys.readouterr().err


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    make_folder(tmp_path, {"10": 1, "9": 1, "2": 1})
    assert load_data("folder", tmp_path, val_fraction=0).classes == ["2", "9", "10"]


@pytest.mark.parametrize(
    "suffix, kind", [("jfif", "JPEG"), ("jpe", "JPEG"), ("gif", "GIF"), ("avif", "AVIF")]
)
def test_whatever_pillow_reads_is_an_image(tmp_path, suffix, kind):
    make_folder(tmp_path, {"cat": 1, "dog": 1})
    Image.new("RGB", (8, 8), "red").save(tmp_path / f"train/cat/x.{suffix}", format=kind)
    data = load_data("folder", tmp_path, val_fraction=0)
    assert f"train/cat/x.{suffix}" in data.train.ids
    assert len(data.train.prepare((8, 8))) == 3


def no_train(root):
    make_folder(root, {"cat": 1, "dog": 1}, part=".")


def given_train_itself(root):
    make_folder(root / "train", {"cat": 1, "dog": 1}, part=".")
    return root / "train"


def empty_class(root):
    make_folder(root, {"cat": 1, "dog": 1})
    (root / "train" / "emu").mkdir()


def other_classes(root):
    make_folder(root, {"cat": 1, "dog": 1})
    make_folder(root, {"cat": 1, "emu": 1}, part="test")


def loose_image(root):
    make_folder(root, {"cat": 1, "dog": 1})
    save_image(root / "train" / "loose.png")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (no_train, "no train/.*cat, dog"),
        (given_train_itself, "DATASET_PATH is the folder above"),
        (empty_class, "train/emu"),
        (other_classes, "test differ.*dog.*emu"),
        (loose_image, "outside any class.*loose.png"),
        (lambda root: make_folder(root, {"cat": 3}), "at least 2 class"),
        (lambda root: root / "absent", "there is no folder .*absent"),
    ],
)
def test_folder_explains_what_is_wrong(tmp_path, make, words):
    path = make(tmp_path)
    with pytest.raises(UserError, match=words):
        load_data("folder", path or tmp_path, val_fraction=0)


REAL = {  # images of train and val, classes, and whether all of them are grey
    "magnetic_tile": (419, 80, 6, True),
    "busi": (463, 97, 3, False),
    "neu": (1074, 216, 6, True),
    "cifar10_images": (5000, 1000, 10, False),
}


@pytest.mark.parametrize("name", REAL)
def test_real_images(outside, name):
    train, val, classes, grey = REAL[name]
    data = load_data("folder", outside(name))
    assert (len(data.train), len(data.val)) == (train, val)
    assert len(data.classes) == classes
    assert not set(data.train.ids) & set(data.val.ids)
    images = data.val.prepare((64, 48)).images
    assert images.shape[:2] == (val, 3)
    assert torch.equal(images[:, 0], images[:, 1]) == grey
    assert images.float().std() > 10
