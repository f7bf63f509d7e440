"""The batch transform: equal to torchvision and Pillow image by image, its draws those of the image alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from sigmoid_vit.data import BatchTransform
from sigmoid_vit.data.augmentation import FlipCropResize, _boxes, crop_resize
from sigmoid_vit.errors import UserError

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
N = 12


def transform(size=(48, 40), interpolation="bicubic", **kwargs):
    return BatchTransform(size, MEAN, STD, interpolation, n=N, **kwargs)


@pytest.fixture
def images():
    return torch.randint(256, (N, 3, 32, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


EVERY = torch.arange(N)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(48, 40), (16, 10), (32, 24)], ids=["larger", "smaller", "same"])
def test_evaluation_is_torchvisions_resize_and_normalize(images, size, interpolation):
    found = transform(size, interpolation)(images, EVERY)
    resize = v2.Resize(size, v2.InterpolationMode(interpolation), antialias=True)
    grey = resize(images.float()).clamp(0, 255)
    assert found.dtype == torch.float32
    assert torch.equal(found, v2.Normalize(MEAN, STD)(grey / 255))
    low, high = ((torch.tensor(end) - torch.tensor(MEAN)) / torch.tensor(STD) for end in (0.0, 1.0))
    assert (found >= low[:, None, None] - 1e-6).all()
    assert (found <= high[:, None, None] + 1e-6).all()


def test_training_without_flip_and_crop_is_evaluation(images):
    train = transform(train=True, hflip=0.0, crop_scale=1.0)(images, EVERY, epoch=3)
    assert torch.equal(train, transform()(images, EVERY))


def test_flips_alone_mirror_exactly(images):
    plain, found = transform()(images, EVERY), transform(train=True, crop_scale=1.0)(images, EVERY, 0)
    mirrored = transform()(images.flip(-1), EVERY)
    flipped = [torch.equal(found[i], mirrored[i]) for i in range(N)]
    assert 0 < sum(flipped) < N
    assert all(torch.equal(found[i], plain[i]) for i in range(N) if not flipped[i])
    assert torch.equal(transform(train=True, crop_scale=1.0, hflip=1.0)(images, EVERY, 0), mirrored)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(48, 40), (9, 7)], ids=["larger", "smaller"])
def test_crops_are_pillows_image_by_image(images, size, interpolation):
    box = _boxes(torch.rand(N, 4, generator=torch.Generator().manual_seed(1)), 0.2)
    found = crop_resize(images.float(), box, size, interpolation)
    h, w = images.shape[-2:]
    for i, (top, left, height, width) in enumerate(box.double().tolist()):
        corners = (left * w, top * h, min(w, (left + width) * w), min(h, (top + height) * h))
        for c in range(3):
            one = Image.fromarray(images[i, c].float().numpy())  # mode F, not rounded
            expected = np.asarray(one.resize(size[::-1], Image.Resampling[interpolation.upper()], corners))
            assert np.abs(found[i, c].numpy() - expected).max() < 0.02  # of 255


def test_the_whole_image_as_a_crop_is_evaluation(images):
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(N, 4)
    whole = crop_resize(images.float(), box, (48, 40), "bicubic")
    resized = v2.functional.resize(images.float(), [48, 40], v2.InterpolationMode.BICUBIC, antialias=True)
    assert torch.allclose(whole, resized, atol=1e-2)


@given(draws=st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), scale=st.floats(0.05, 1))
def test_crops_have_the_area_drawn_lie_inside_and_keep_the_ratio(draws, scale):
    top, left, height, width = _boxes(torch.tensor([draws]), scale)[0].double().tolist()
    assert top >= 0
    assert left >= 0
    assert top + height <= 1 + 1e-6
    assert left + width <= 1 + 1e-6
    assert abs(height * width - (scale + (1 - scale) * draws[0])) < 1e-5
    assert 3 / 4 - 1e-5 <= width / height <= 4 / 3 + 1e-5


def test_draws_do_not_depend_on_the_batch(images):
    one = transform(train=True, seed=5)
    together = one(images, EVERY, epoch=2)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    for batch in order.split(5):
        again = transform(train=True, seed=5)(images[batch], batch, epoch=2)
        assert torch.allclose(again, together[batch], atol=1e-5)
    assert torch.equal(one(images, EVERY, epoch=2), together)


def test_draws_change_with_epoch_seed_and_index(images):
    same = images[:1].expand(N, -1, -1, -1)
    first = transform(train=True)(same, EVERY, 0)
    assert len({tuple(x.flatten().tolist()) for x in first}) == N
    assert not torch.allclose(first, transform(train=True)(same, EVERY, 1))
    assert not torch.allclose(first, transform(train=True, seed=1)(same, EVERY, 0))


def test_pixels_keep_their_precision_under_autocast(images):
    plain = transform(train=True)(images, EVERY, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transform(train=True)(images, EVERY, 0), plain)


def test_bad_settings_are_refused():
    for bad in ({"interpolation": "nearest"}, {"hflip": 1.5}, {"crop_scale": 0.0}):
        with pytest.raises(UserError, match=f"{next(iter(bad))}={next(iter(bad.values()))}"):
            transform(**bad)
    with pytest.raises(ValueError, match="needs n"):
        BatchTransform(8, MEAN, STD, train=True)


# --- maps move with the image


def some_flips_and_crops(size, interpolation="bilinear"):
    draw = torch.Generator().manual_seed(3)
    flip = torch.rand(N, generator=draw) < 0.5
    return FlipCropResize(size, interpolation, flip, _boxes(torch.rand(N, 4, generator=draw), 0.3))


def test_flipping_a_map_twice_is_the_identity():
    maps = torch.rand(4, 6, 5)
    flip = FlipCropResize((8, 8), "bicubic", flip=torch.tensor([True, False, True, True]))
    once = flip.move_maps(maps)
    assert torch.equal(once[0], maps[0].flip(-1))
    assert torch.equal(once[1], maps[1])
    assert torch.equal(flip.move_maps(once), maps)


def test_a_map_of_the_images_size_moves_as_the_image_does():
    pictures = torch.rand(N, 16, 24, generator=torch.Generator().manual_seed(0))
    move = some_flips_and_crops((16, 24))
    moved = move.move_images(pictures[:, None])[:, 0]
    assert not torch.allclose(moved, pictures, atol=0.2)
    torch.testing.assert_close(move.move_maps(pictures), moved)


def test_maps_of_any_grid_stay_on_it_and_in_range():
    move = some_flips_and_crops((48, 40), "bicubic")
    maps = (torch.rand(N, 5, 7, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    moved = move.move_maps(maps)
    assert moved.shape == maps.shape
    assert moved.min() >= 0
    assert moved.max() <= 1
    torch.testing.assert_close(move.move_maps(torch.full((N, 5, 7), 0.3)), torch.full((N, 5, 7), 0.3))


def test_without_flip_and_crop_a_map_stays_as_it_is():
    maps = torch.rand(N, 6, 5)
    assert torch.equal(FlipCropResize((48, 40), "bicubic").move_maps(maps), maps)


def test_a_map_follows_a_square_through_flips_and_crops():
    cells, pixels = 12, 96
    squares = torch.zeros(N, cells, cells)
    for i in range(N):
        squares[i, 2 + i % 5 : 7 + i % 5, i % 4 : 6 + i % 4] = 1
    images = (255 * squares).to(torch.uint8).repeat_interleave(8, 1).repeat_interleave(8, 2)
    move = transform((pixels, pixels), "bilinear", train=True, crop_scale=0.4)
    x, maps = move.with_maps(images[:, None].expand(-1, 3, -1, -1), EVERY, 1, squares)
    assert maps.shape == squares.shape
    shown = x[:, 0] * STD[0] + MEAN[0]  # [N, pixels, pixels], the square in 0..1
    expected = torch.nn.functional.avg_pool2d(shown[:, None], 8)[:, 0]  # [N, cells, cells]
    error = (maps - expected).abs().mean()
    assert error < 0.04
    assert not torch.allclose(maps, squares, atol=0.2)
    assert (squares - expected).abs().mean() > 5 * error  # a map left behind would not agree


def test_the_image_is_the_same_with_maps(images):
    move = transform(train=True)
    assert torch.equal(move.with_maps(images, EVERY, 0, torch.rand(N, 4, 4))[0], move(images, EVERY, 0))


def test_several_maps_move_alike(images):
    move, maps = transform(train=True), torch.rand(N, 4, 4)
    _, one, two, opposite = move.with_maps(images, EVERY, 0, maps, maps, 1 - maps)
    assert torch.equal(one, two)
    torch.testing.assert_close(one + opposite, torch.ones_like(one))
