"""A part of an image file is that part of the whole, whatever its format, its turn and its depth."""

import numpy as np
import pytest
from PIL import ExifTags, Image

from sigmoid_vit.data import ValueRange, read_image
from sigmoid_vit.data.images import read_region

BOXES = [(0, 0, 61, 43), (8, 16, 40, 32), (3, 5, 58, 42), (60, 42, 61, 43)]


def smooth(w, h, seed=0):
    """A smooth image, so that JPEG and resizing keep it."""
    coarse = np.random.RandomState(seed).randint(60, 190, (5, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((w, h), Image.Resampling.BICUBIC)


def save(path, image, orientation=1):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_by_its_own_pixels_it_is_the_part_of_the_whole(tmp_path, suffix, orientation):
    size = (43, 61) if orientation in (5, 6, 7, 8) else (61, 43)
    path = save(tmp_path / f"a{suffix}", smooth(*size), orientation)
    whole = read_image(path)
    assert whole.size == (61, 43)
    for box in BOXES:
        assert np.array_equal(read_region(path, box), whole.crop(box))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_smaller_it_agrees_with_the_whole_made_smaller(tmp_path, suffix, orientation, shrink):
    """Also where the sides are no multiples of it; a shift by one pixel of the file is seen."""
    size = (1203, 1601) if orientation in (6, 7) else (1601, 1203)
    path = save(tmp_path / f"a{suffix}", smooth(*size), orientation)
    whole = np.asarray(read_image(path))[..., 0].astype(np.float32)
    for left, top, right, bottom in [(0, 0, 1601, 1203), (801, 403, 1601, 1203), (333, 77, 1333, 877)]:
        found = np.asarray(read_region(path, (left, top, right, bottom), shrink))[..., 0]
        assert found.shape == (-(-(bottom - top) // shrink), -(-(right - left) // shrink))

        def difference(x, y, box=(left, top, right, bottom), found=found):
            part = np.roll(whole, (y, x), (0, 1))[box[1] : box[3], box[0] : box[2]]
            expected = Image.fromarray(part).resize(found.shape[::-1], Image.Resampling.BOX)
            return np.abs(found - np.asarray(expected))[3:-3, 3:-3].mean()

        assert difference(0, 0) < 0.5
        assert difference(0, 0) < min(difference(x, y) for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)))


def test_a_jpeg_is_decoded_smaller(tmp_path, monkeypatch):
    path, decoded, crop = save(tmp_path / "a.jpg", smooth(1600, 1200)), [], Image.Image.crop
    monkeypatch.setattr(Image.Image, "crop", lambda it, box: decoded.append(it.size) or crop(it, box))
    for shrink in (1, 4, 8):
        read_region(path, (0, 0, 160, 160), shrink)
    assert decoded == [(1600, 1200), (400, 300), (200, 150)]


def test_a_deep_image_has_the_range_of_its_data_set(tmp_path):
    values = np.arange(4096).reshape(64, 64)
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "a.png")
    box = (0, 0, 64, 10)  # darker than the rest
    for known in (None, ValueRange(known={"integer": 16383})):
        whole = read_image(tmp_path / "a.png", values=known)
        assert np.array_equal(read_region(tmp_path / "a.png", box, values=known), whole.crop(box))
