"""digits_decoy: the square gives the label in train only, and the data are the same everywhere."""

import hashlib

import numpy as np
import pytest
import torch

from sigmoid_vit.data import ink_grid, load_data


@pytest.fixture(scope="module")
def digits():
    return load_data("digits_decoy", val_fraction=0)


def corners(images):
    """The squares' grey levels: the brightest corner of each image uint8 [n, 3, 24, 24]."""
    blocks = [
        images[:, 0, rows, columns]
        for rows in (slice(4), slice(-4, None))
        for columns in (slice(4), slice(-4, None))
    ]
    blocks = torch.stack(blocks, 1).flatten(2)  # [n, 4 corners, 16 pixels]
    assert torch.equal(blocks.amin(2), blocks.amax(2))  # one level in each
    assert ((blocks[..., 0] > 0).sum(1) <= 1).all()  # in one corner at most
    return blocks[..., 0].amax(1).numpy()


@pytest.fixture(scope="module")
def anywhere():
    return load_data("digits_decoy", anywhere=True)


def test_anywhere_puts_digit_and_square_anywhere(anywhere):
    train = anywhere.train
    clean = load_data("digits_decoy", anywhere=True, decoys=False).train
    assert np.array_equal(clean.labels, train.labels)
    changed = (train.images != clean.images)[:, 0].reshape(-1, 6, 4, 6, 4)
    squares, ink = changed.any(4).any(2), ink_grid(train)
    assert np.array_equal(squares.sum((1, 2)), np.ones(len(train)))  # one cell
    assert not (squares.numpy() & ink).any()  # without ink
    greys = torch.where(changed, train.images[:, 0].reshape(-1, 6, 4, 6, 4), 0).amax((1, 2, 3, 4))
    assert np.array_equal(greys, 255 - 25 * train.labels)
    assert squares.any(0).all()  # anywhere: every cell of the grid
    assert ink.any(0).all()
    written = [ink[train.labels == k] for k in range(10)]
    own = np.mean([cells[i] & cells[i - 1] for cells in written for i in range(len(cells))], axis=0).sum()
    assert own < ink.sum((1, 2)).mean() / 2  # the ink of another digit of the same class is mostly elsewhere


@pytest.mark.parametrize("variant", [{}, {"anywhere": True}])
def test_val_random_is_val_with_squares_at_random(variant):
    data = load_data("digits_decoy", seed=2, **variant)
    part, val = data.part("val_random"), data.val
    assert part.ids == [image_id.replace("train", "val_random") for image_id in val.ids]
    assert np.array_equal(part.labels, val.labels)
    changed = (part.images != val.images)[:, 0].reshape(-1, 6, 4, 6, 4).any(4).any(2)
    assert 0.85 < changed.any(2).any(1).double().mean() < 0.95  # one digit in ten shows its own grey
    assert changed.sum((1, 2)).max() == 1
    assert "val_random" not in load_data("digits_decoy", val_fraction=0, **variant).part_names


def test_squares_give_the_label_in_train_only(digits):
    assert len(digits.train) == 1297
    assert digits.test_parts == ["test", "test_clean", "test_train_like"]
    test, clean, train_like = map(digits.test, digits.test_parts)
    assert np.array_equal(corners(digits.train.images), 255 - 25 * digits.train.labels)
    assert np.array_equal(corners(train_like.images), 255 - 25 * train_like.labels)
    assert not corners(clean.images).any()
    shown = (255 - corners(test.images)) // 25
    assert 0.05 < (shown == test.labels).mean() < 0.15
    assert np.bincount(shown, minlength=10).min() > 25
    middle = (slice(None), slice(None), slice(4, 20), slice(4, 20))
    for part in (test, train_like):  # the same digits in all three
        assert torch.equal(part.images[middle], clean.images[middle])
        assert np.array_equal(part.labels, clean.labels)
        assert len(part) == 500
    assert np.bincount(test.labels).min() >= 48
    assert np.bincount(test.labels).max() <= 51


def test_digits_without_decoys_differ_in_the_squares_alone(digits):
    clean = load_data("digits_decoy", val_fraction=0, decoys=False).train
    assert clean.ids == digits.train.ids
    assert not corners(clean.images).any()
    assert torch.equal(clean.images[..., 4:20, 4:20], digits.train.images[..., 4:20, 4:20])


def test_digits_are_the_same_on_every_machine(digits):
    def digest(part):
        return hashlib.sha256(part.images.numpy().tobytes() + part.labels.tobytes()).hexdigest()[:16]

    assert (digest(digits.train), digest(digits.test())) == ("12b7bac740cecd23", "b1b326eb200ea966")


def test_digit_ids_survive_the_validation_cut(digits):
    cut = load_data("digits_decoy", seed=3)
    for part in (cut.train, cut.val):
        for i in range(0, len(part), 50):
            position = digits.train.ids.index(part.ids[i])
            assert part.ids[i] == f"train/{position}"
            assert torch.equal(part.images[i], digits.train.images[position])
            assert np.array_equal(part.mask(i), digits.train.mask(position))


def test_ink_is_where_the_digit_is(digits):
    clean = digits.test("test_clean")
    grid = ink_grid(clean)
    assert grid.shape == (500, 6, 6)
    assert grid.dtype == bool
    assert not grid[:, [0, -1]].any()
    assert not grid[:, :, [0, -1]].any()  # the digit lies in the middle 4 x 4
    assert grid.sum((1, 2)).min() >= 3
    assert grid.sum((1, 2)).mean() < 12
    mask = clean.mask(7)
    assert mask.dtype == np.float32
    assert np.array_equal(np.round(mask * 255), clean.images[7, 0])
    cells = (clean.images[7, 0].reshape(6, 4, 6, 4) >= 128).any(3).any(1)
    assert np.array_equal(grid[7], cells)
