"""The batch transform: equal to torchvision and Pillow image by image, its draws those of the image alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from sigmoid_vit.data import AttentionMap, BatchTransform
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
    assert found.dtype == torch.float32 and torch.equal(found, v2.Normalize(MEAN, STD)(grey / 255))
    low, high = ((torch.tensor(end) - torch.tensor(MEAN)) / torch.tensor(STD) for end in (0.0, 1.0))
    assert (found >= low[:, None, None] - 1e-6).all() and (found <= high[:, None, None] + 1e-6).all()


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
    assert top >= 0 and left >= 0 and top + height <= 1 + 1e-6 and left + width <= 1 + 1e-6
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


# --- attention maps move with the image


def test_flipping_a_map_twice_is_the_identity():
    maps = AttentionMap(torch.rand(4, 6, 5))
    flip = FlipCropResize((8, 8), "bicubic", flip=torch.tensor([True, False, True, True]))
    once = flip(maps)
    assert type(once) is AttentionMap
    assert torch.equal(once[0], maps[0].flip(-1)) and torch.equal(once[1], maps[1])
    assert torch.equal(flip(once), maps)


def test_a_map_follows_a_square_through_flips_and_crops():
    cells, pixels = 12, 96
    squares = torch.zeros(N, cells, cells)
    for i in range(N):
        squares[i, 2 + i % 5 : 7 + i % 5, i % 4 : 6 + i % 4] = 1
    images = (255 * squares).to(torch.uint8).repeat_interleave(8, 1).repeat_interleave(8, 2)
    move = transform((pixels, pixels), "bilinear", train=True, crop_scale=0.4)
    x, maps = move.with_maps(images[:, None].expand(-1, 3, -1, -1), EVERY, 1, squares)
    assert maps.shape == squares.shape and maps.min() >= 0 and maps.max() <= 1
    shown = x[:, 0] * STD[0] + MEAN[0]  # [N, pixels, pixels], the square in 0..1
    seen = torch.nn.functional.avg_pool2d(shown[:, None], 8)[:, 0]  # [N, cells, cells]
    assert (maps - seen).abs().mean() < 0.04 and not torch.allclose(maps, squares, atol=0.2)
    still = (squares - seen).abs().mean()
    assert still > 5 * (maps - seen).abs().mean()  # a map left behind would not agree


STOCK = [
    v2.RandomHorizontalFlip(1),
    v2.RandomVerticalFlip(1),
    v2.Resize((10, 30)),
    v2.RandomCrop((9, 11)),
    v2.CenterCrop((9, 30)),  # pads as well
    v2.RandomResizedCrop((14, 12)),
    v2.Pad([1, 2, 3, 4]),
    v2.RandomRotation(40, v2.InterpolationMode.BILINEAR, expand=True),
    v2.RandomAffine(20, (0.2, 0.2), (0.7, 1.2), interpolation=v2.InterpolationMode.BILINEAR),
    v2.RandomPerspective(p=1),
    v2.ElasticTransform(sigma=1.0),
]


@pytest.mark.parametrize("stock", STOCK, ids=lambda stock: type(stock).__name__)
def test_torchvisions_own_transforms_move_a_map_of_the_images_size(stock):
    x = torch.rand(1, 16, 24, generator=torch.Generator().manual_seed(0))
    image, maps, one = stock(tv_tensors.Image(x), AttentionMap(x), AttentionMap(x[0]))
    assert type(maps) is type(one) is AttentionMap and not torch.equal(image, x)
    torch.testing.assert_close(maps.as_subclass(torch.Tensor), image.as_subclass(torch.Tensor).clamp(0, 1))
    assert torch.equal(one, maps[0])


def test_what_comes_into_the_image_is_not_edited():
    everywhere = AttentionMap(torch.ones(2, 4, 4))
    for grown in (v2.Pad(1, fill=1)(everywhere), v2.Pad(1, padding_mode="reflect")(everywhere)):
        assert grown.shape == (2, 6, 6) and grown.sum() == everywhere.sum()
    nearest = v2.Resize((8, 8), v2.InterpolationMode.NEAREST)(AttentionMap(torch.eye(4)))
    soft = v2.Resize((8, 8))(tv_tensors.Image(torch.eye(4)[None]))[0]
    assert torch.equal(nearest.as_subclass(torch.Tensor), soft.as_subclass(torch.Tensor))


def test_other_tensors_pass_through_and_the_image_is_the_same_with_maps(images):
    geometry = FlipCropResize((8, 8), "bicubic", flip=torch.ones(N, dtype=torch.bool))
    labels = torch.arange(N)
    assert geometry([tv_tensors.Image(images), labels])[1] is labels
    move = transform(train=True)
    assert torch.equal(move.with_maps(images, EVERY, 0, torch.rand(N, 4, 4))[0], move(images, EVERY, 0))
