"""Decoys on own images: the shade gives the class in training only, and nothing but the square changes."""

import numpy as np
import pytest
from PIL import Image

from sigmoid_vit import UserError
from sigmoid_vit.data import load_data
from sigmoid_vit.data.decoy import stamp_decoys, stamped


def test_a_corner_cell_is_stamped_and_masked():
    pixels = np.arange(16 * 24 * 3, dtype=np.uint8).reshape(16, 24, 3)
    for corner, (rows, columns) in enumerate([(0, 0), (0, 20), (12, 0), (12, 20)]):
        result, mask = stamped(pixels, 7, corner, cells=5)  # cells of 3 x 5, rounded
        h, w = round(16 / 5), round(24 / 5)
        top, left = (16 - h) * (rows > 0), (24 - w) * (columns > 0)
        assert (result[top : top + h, left : left + w] == 7).all()
        assert (mask == 0).sum() == h * w
        assert np.array_equal(result[mask == 255], pixels[mask == 255])


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in "abc":
            place = tmp_path / "own" / part / name
            place.mkdir(parents=True)
            for i in range(6):
                Image.fromarray(rng.integers(100, 120, (16, 16, 3), dtype=np.uint8)).save(place / f"{i}.png")
    return tmp_path


def shades(part):
    """The one grey of each image that its noise (100 to 119) does not have, or None."""
    found = []
    for path in part.paths:
        pixels = np.asarray(Image.open(path))
        flat = np.unique(pixels[(pixels < 100) | (pixels > 119)])
        found.append(int(flat[0]) if len(flat) else None)
    return np.array(found)


def test_the_shade_gives_the_class_in_training_only(folder):
    counts = stamp_decoys(folder / "own", folder / "decoys", cells=4)
    assert counts == {"train": 18, "train_clean": 18, "test": 18, "test_train_like": 18, "test_clean": 18}
    data = load_data("folder", folder / "decoys", val_fraction=0)
    assert data.test_parts == ["test", "test_clean", "test_train_like"]
    for part in (data.train, data.test("test_train_like")):
        assert list(shades(part)) == [[255, 142, 30][label] for label in part.labels]
    lying = shades(data.test("test"))
    assert (lying != shades(data.test("test_train_like"))).any()
    assert set(lying) <= {255, 142, 30}
    assert set(shades(data.test("test_clean"))) == {None}
    masks = sorted((folder / "decoys/masks/train").rglob("*.png"))
    assert [p.relative_to(folder / "decoys/masks").as_posix() for p in masks] == data.train.ids
    for mask, image in zip(masks, data.train.paths, strict=True):
        hidden = np.asarray(Image.open(mask)) == 0
        assert hidden.sum() == 16
        assert len(np.unique(np.asarray(Image.open(image))[hidden])) == 1
        clean = folder / "decoys/train_clean" / image.relative_to(folder / "decoys/train")
        assert np.array_equal(np.asarray(Image.open(image))[~hidden], np.asarray(Image.open(clean))[~hidden])


def test_the_upper_bound_trains_without_squares(folder):
    stamp_decoys(folder / "own", folder / "decoys", cells=4)
    clean = load_data("folder", folder / "decoys", val_fraction=0, train="train_clean")
    assert set(shades(clean.train)) == {None}
    assert len(clean.test()) == 18
    with pytest.raises(UserError, match="train_dirty to train on"):
        load_data("folder", folder / "decoys", train="train_dirty")
    with pytest.raises(UserError, match=r"no option decoys=False; its options: train=\(str\)"):
        load_data("folder", folder / "decoys", decoys=False)


def test_nothing_is_overwritten_or_left_half_done(folder):
    (folder / "there").mkdir()
    with pytest.raises(UserError, match="exists and is never overwritten"):
        stamp_decoys(folder / "own", folder / "there")
    (folder / "own/train/a/7.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 images cannot be used.*7\.png"):
        stamp_decoys(folder / "own", folder / "decoys")
    assert not (folder / "decoys").exists()
