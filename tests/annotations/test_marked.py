"""What people marked: each measure on paper, a uniform map at chance, empty and missing masks not counted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.images import make_folder
from helpers.marked_images import save
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import jaccard_score

from sigmoid_vit import UserError
from sigmoid_vit.annotations.marked import (
    cover_of_edits,
    cover_of_masks,
    epg,
    iou,
    marked_cells,
    outside,
    pointing_game,
)
from sigmoid_vit.annotations.sources import Source
from sigmoid_vit.data import ink_grid, load_data
from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.edits.store import PROPAGATED, EditStore, StoredEdit


@pytest.fixture(scope="module")
def digits():
    return load_data("digits_decoy")


def test_measures_on_paper():
    maps = torch.tensor([[0.5, 0.3], [0.2, 0.0]]).repeat(3, 1, 1)
    cover = torch.tensor([[[0.5, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]], [[0.0, 0.1], [0.1, 0.1]]])
    assert pointing_game(maps, cover).tolist() == [1, 0, 0]
    # 0.5 x 0.5 + 0.2 of 1.0; nothing; 0.1 x 0.3 + 0.1 x 0.2
    assert epg(maps, cover).tolist() == pytest.approx([0.45, 0.0, 0.05])
    assert outside(maps, cover).tolist() == pytest.approx([0.55, 1.0, 0.95])
    # cells at 0.3 or more: the upper two; the sliver of 0.1 counts as inside
    assert iou(maps, cover, 0.3).tolist() == pytest.approx([1 / 3, 0.0, 1 / 4])
    assert iou(maps, cover, 0.6).tolist() == [0.0, 0.0, 0.0]


def test_equally_strong_cells_share_the_point():
    maps = torch.tensor([[[0.4, 0.4], [0.1, 0.4]]])
    assert pointing_game(maps, torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])).item() == pytest.approx(1 / 3)


@settings(max_examples=30, deadline=None)
@given(gh=st.integers(1, 6), gw=st.integers(1, 6), seed=st.integers(0, 99), scale=st.floats(0.5, 9))
def test_a_uniform_map_has_the_chance_level_and_any_map_agrees_with_scikit_learn(gh, gw, seed, scale):
    g = torch.Generator().manual_seed(seed)
    cover = (torch.rand(2, gh, gw, generator=g) - 0.5).clamp(min=0)
    cover[:, 0, 0] = 1
    uniform, inside = torch.full_like(cover, scale), (cover > 0).float().mean((1, 2))
    torch.testing.assert_close(pointing_game(uniform, cover), inside)
    torch.testing.assert_close(epg(uniform, cover), cover.mean((1, 2)))
    torch.testing.assert_close(iou(uniform, cover), inside)
    maps = torch.rand(2, gh, gw, generator=g)
    for one, mask, value in zip(maps, cover, iou(maps, cover), strict=True):
        expected = jaccard_score((mask > 0).flatten().numpy(), (one >= 0.5).flatten().numpy())
        assert value.item() == pytest.approx(expected)
    torch.testing.assert_close(epg(scale * maps, cover), epg(maps, cover))
    assert torch.equal(pointing_game(scale * maps, cover), pointing_game(maps, cover))


def test_empty_and_missing_masks_are_not_counted(digits):
    half = np.zeros((24, 24), np.float32)
    half[:, :10], half[0, 23] = 1, 0.4  # the last pixel is below what counts as marked
    maps = [half, np.full((24, 24), 0.4, np.float32), None, np.ones((24, 24), np.float32)]
    covers = cover_of_masks(Source(lambda i: maps[i], ""), digits.train.subset(range(4)), (2, 2))
    assert sorted(covers) == [0, 3]
    assert covers[0] == pytest.approx(np.array([[10 / 12, 0], [10 / 12, 0]]))
    assert (covers[3] == 1).all()


def test_what_an_edit_means():
    value = torch.tensor([[[0.9, 0.2, 0.5]], [[0.0, 0.0, 0.0]], [[0.9, 0.9, 0.9]], [[0.1, 0.0, 0.2]]])
    edited = torch.tensor([[[1, 1, 0]], [[0, 1, 0]], [[0, 0, 0]], [[1, 1, 1]]], dtype=torch.bool)
    covers = {i: cover.tolist() for i, cover in cover_of_edits(EditMaps(value, edited)).items()}
    assert covers == {0: [[1, 0, 0]], 1: [[1, 0, 1]]}  # 2 is not edited; 3 keeps no cell


def test_without_a_name_the_data_sets_own_masks_count(digits):
    part = digits.val
    own = marked_cells(digits, part, (6, 6))
    inside = np.stack([own.cover[i] > 0 for i in range(len(part))])
    assert np.array_equal(inside, ink_grid(part))
    assert own.source == "masks of the data set"
    assert marked_cells(digits, replace(part, masks=None), (6, 6)).cover == {}


def test_masks_beside_the_images_are_the_data_sets_own(tmp_path):
    make_folder(tmp_path, {"cat": 3, "dog": 2}, suffix=".jpg")
    mask = np.zeros((12, 10), np.uint8)
    mask[:6] = 255
    Image.fromarray(mask).save(tmp_path / "train/cat/01_mask.png")
    data = load_data("folder", tmp_path, val_fraction=0)
    own = marked_cells(data, data.train, (2, 2))
    assert own.cover.keys() == {data.train.ids.index("train/cat/01.jpg")}
    assert own.cover[1] == pytest.approx(np.array([[1, 1], [0, 0]]))


def test_named_edits_come_before_the_data_sets_own_masks(digits, tmp_path):
    part, store = digits.val, str(tmp_path / "edits.sqlite")
    edit = StoredEdit(part.ids[1], part.sha256(1), np.eye(6, dtype=np.float32), np.eye(6) > 0, "a person")
    with EditStore(store) as edits:
        edits.save(edit)
        edits.save(replace(edit, image_id=part.ids[3], image_sha256=part.sha256(3), author=PROPAGATED))
        edits.save(replace(edit, image_id=part.ids[5], image_sha256="0" * 64))
        edits.save(replace(edit, image_id=digits.train.ids[0]))
    found = marked_cells(digits, part, (6, 6), edits=store)
    account = "1 used, 1 of the data set's other images, 1 of changed images"
    assert found.source == f"edits in {store} ({account})"  # it stays with the figures
    assert list(found.cover) == [1]
    assert np.array_equal(found.cover[1], np.eye(6))


def test_named_masks_come_before_the_data_sets_own(digits, tmp_path):
    part = digits.val
    save(tmp_path / f"{part.ids[2]}.png", np.full((5, 5), 255, np.uint8))
    save(tmp_path / f"{part.ids[4]}.png", np.zeros((5, 5), np.uint8))
    found = marked_cells(digits, part, (6, 6), masks=str(tmp_path))
    assert list(found.cover) == [2]
    assert found.cover[2] == pytest.approx(np.ones((6, 6)))


def test_a_part_on_which_nothing_is_marked_is_refused(digits, tmp_path):
    (tmp_path / "masks").mkdir()
    with EditStore(tmp_path / "edits.sqlite"):
        pass
    for name, place, says in (
        ("masks", "masks", r"no image of train is marked in .*masks"),
        ("masks", "nowhere", "there is no folder"),
        ("edits", "edits.sqlite", "holds no edit"),
    ):
        with pytest.raises(UserError, match=says):
            marked_cells(digits, digits.train, (6, 6), **{name: str(tmp_path / place)})
