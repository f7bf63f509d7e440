"""What a mask file means: transparency, arrays, borders, masks of the background, photos that EXIF turns."""

import numpy as np
import pytest
from helpers.marked_images import block, run_import, save
from PIL import ExifTags, Image

from sigmoid_vit import UserError
from sigmoid_vit.annotations.mask_files import MaskValues, read_map, read_mask
from sigmoid_vit.annotations.orientation import TURNED, UNSURE
from sigmoid_vit.data import read_image

HALF = block(0, 8, 0, 12)  # of 16 x 24
MARKED = HALF > 0


def rgba(colour, alpha):
    return np.concatenate([np.broadcast_to(np.uint8(colour), (*alpha.shape, 3)), alpha[..., None]], -1)


@pytest.mark.parametrize(
    "pixels",
    [
        rgba([255, 255, 255], HALF),  # white strokes on nothing
        rgba([0, 0, 0], HALF),  # black ones
        rgba([200, 30, 30], HALF),  # an object that was cut out
        rgba(np.where(MARKED, 255, 0)[..., None].repeat(3, -1), np.uint8(HALF // 5 + 204)),
        np.stack([HALF * 0 + 255, HALF], -1),  # grey and alpha
    ],
)
def test_transparency_is_the_mask_where_the_colours_are_none(tmp_path, pixels):
    meaning = MaskValues()
    assert np.array_equal(read_mask(save(tmp_path / "a.png", pixels), meaning), MARKED)
    assert len(meaning.told) == 1


def test_an_array_is_read_as_its_type_says(tmp_path):
    path = tmp_path / "a.npy"
    for values in (MARKED, HALF, HALF.astype(np.int64), MARKED.astype(np.float32), MARKED[None]):
        np.save(path, values)
        assert np.array_equal(read_mask(path), MARKED), values.dtype
    np.save(path, MARKED * 0.25)
    assert np.array_equal(read_map(path), MARKED * np.float32(0.25))
    np.save(path, MARKED * np.int32(7))
    meaning = MaskValues()
    assert np.array_equal(read_mask(path, meaning), MARKED)
    assert meaning.label_ids == {7}
    for wrong, says in ((MARKED * 2.5, "floats from 0 to 2.5"), (MARKED.ravel(), r"shape \[384\]")):
        np.save(path, wrong)
        with pytest.raises(UserError, match=rf"a\.npy: .*{says}"):
            read_mask(path)


def test_a_border_is_never_marked(tmp_path):
    for object_id in (1, 2):
        values = block(0, 8, 0, 12, value=object_id)
        values[12:] = 255
        path = save(tmp_path / "a.png", values)
        assert np.array_equal(read_mask(path), MARKED)
        assert np.array_equal(read_mask(path, MaskValues(inverted=True)), values == 0)
        assert np.array_equal(read_mask(path, MaskValues((str(object_id),), True)), values == 0)
        assert np.array_equal(read_mask(path, MaskValues(("255",))), values == 255)


def test_a_palette_of_greys_counts_by_its_greys(tmp_path):
    """Programs that make PNG files small number the greys as they come: white may be 0."""
    image = Image.fromarray(np.where(MARKED, 0, 1).astype(np.uint8), "P")
    image.putpalette([255, 255, 255, 0, 0, 0, 100, 100, 100])
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png"), MARKED)


def test_one_bit_and_greys(tmp_path, cats_and_dogs):
    Image.fromarray(HALF).convert("1").save(tmp_path / "a.tif", compression="group4")
    assert np.array_equal(read_mask(tmp_path / "a.tif"), MARKED)
    masks = cats_and_dogs.parent / "masks"
    save(masks / "cat/a.png", np.where(MARKED, 200, 40).astype(np.uint8))
    save(masks / "cat/b.png", block(0, 8, 0, 12, value=40))
    account, edits = run_import(cats_and_dogs, "masks", masks)
    assert list(edits) == ["train/cat/a.jpg"]
    assert account.in_empty == ["0", "40"]
    text = account.text()
    assert "empty mask (no pixel reaches 0.5; found there: 0, 40): 1 (train/cat/b.jpg)" in text
    assert "masks with a few grey values" in text
    account, _ = run_import(cats_and_dogs, "masks", masks, mask_value=[40])
    assert len(account.edited) == 2


def test_masks_of_the_background(cats_and_dogs):
    masks = cats_and_dogs.parent / "masks"
    for name in ("cat/a", "cat/b", "dog/a"):
        save(masks / f"{name}.png", 255 - block(0, 4, 0, 8))
    account, _ = run_import(cats_and_dogs, "masks", masks)
    assert "mark more than 80% of their image; if that is the background, --inverted: 3" in account.text()
    account, edits = run_import(cats_and_dogs, "masks", masks, inverted=True)
    assert "--inverted" not in account.text()
    assert np.array_equal(~edits["train/cat/a.jpg"].edited, block(0, 1, 0, 2, (4, 6)) > 0)
    for kind in ("gaze", "ink"):
        with pytest.raises(UserError, match="--inverted: only for masks"):
            run_import(cats_and_dogs, kind, *["x"] * (kind == "gaze"), inverted=True)


def test_names_need_a_label_map(cats_and_dogs):
    save(cats_and_dogs.parent / "masks/cat/a.png", HALF)
    with pytest.raises(UserError, match=r"--mask_value crack: .*values are numbers"):
        run_import(cats_and_dogs, "masks", cats_and_dogs.parent / "masks", mask_value=["crack"])


# photos that EXIF turns


def photo(path, stored, orientation):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(stored).save(path, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_turns_with_its_photo(tmp_path, orientation):
    """The mask lies on the photo's bright quarter, whichever of the two frames it was made in."""
    path = tmp_path / "d/train/a/1.jpg"
    photo(path, np.repeat(HALF[..., None], 3, axis=2), orientation)  # stored as 16 x 24
    photo(tmp_path / "d/train/b/2.jpg", np.repeat(HALF[..., None], 3, axis=2), 1)
    upright = (np.asarray(read_image(path))[..., 0] > 127) * np.uint8(255)
    for frame, mask in (("upright", upright), ("stored", HALF)):
        save(tmp_path / frame / "a/1.png", mask)
        grid = "4x6" if orientation < 5 else "6x4"
        account, edits = run_import(tmp_path / "d", "masks", tmp_path / frame, grid=grid, val_fraction=0)
        right = np.array_equal(edits["train/a/1.jpg"].edited, upright[2::4, 2::4] == 0)
        assert right or (frame == "stored" and 1 < orientation < 5)  # what no size tells is said
        assert (TURNED in account.told) == (orientation >= 5 and frame == "stored")
        assert (UNSURE in account.told) == (1 < orientation < 5)
        assert not account.resized


def test_shares_of_a_turned_photo_are_doubted(tmp_path):
    photo(tmp_path / "d/train/a/1.jpg", np.repeat(HALF[..., None], 3, axis=2), 6)
    photo(tmp_path / "d/train/b/2.jpg", np.repeat(HALF[..., None], 3, axis=2), 1)
    (tmp_path / "1.txt").write_text("0 0.25 0.25 0.5 0.5\n")
    account, _ = run_import(tmp_path / "d", "yolo", tmp_path / "1.txt", val_fraction=0)
    assert account.told[UNSURE] == ["train/a/1.jpg"]
