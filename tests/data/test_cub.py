"""CUB-200-2010 and CUB-200-2011, as small copies of the published layouts."""

import shutil

import numpy as np
import pytest
from helpers.cub import CLASSES, FILES, TRAIN, seg

from sigmoid_vit.data import load_data
from sigmoid_vit.errors import UserError


def test_official_lists_labels_masks_and_boxes(cub):
    name, root, value = cub
    data = load_data(name, root, val_fraction=0)
    assert data.classes == CLASSES
    assert data.test_parts == ["test"]
    assert data.train.ids == [f"images/{file}" for file in TRAIN]
    test = data.test()
    assert sorted(data.train.ids + test.ids) == sorted(f"images/{file}" for file in FILES)
    for part in (data.train, test.subset([4, 1])):
        pixels = part.prepare((32, 32)).images
        for i, path in enumerate(part.ids):
            k = FILES.index(path.removeprefix("images/"))
            assert CLASSES[part.labels[i]] == FILES[k].split("/")[0]
            assert abs(int(pixels[i, 0, 5, 5]) - 10 * k) <= 1
            mask = part.mask(i)
            assert mask.dtype == np.float32
            assert np.array_equal(mask, np.float32(value) * seg(k))
            assert part.box(i).tolist() == [2 + k, 1, 9 + k, 8]


@pytest.mark.parametrize("where", ["", "..", "images"])
def test_a_path_one_folder_too_high_or_too_low_is_found(cub, where):
    name, root, _ = cub
    assert load_data(name, root / where, val_fraction=0).train.ids[0] == f"images/{FILES[0]}"


def test_a_path_elsewhere_is_explained(cub, tmp_path):
    name, root, _ = cub
    (tmp_path / "far" / "away").mkdir(parents=True)
    with pytest.raises(UserError, match=r"lacks images, .*\.txt.*DATASET_PATH is the folder that holds"):
        load_data(name, tmp_path / "far" / "away")
    with pytest.raises(UserError, match="there is no folder"):
        load_data(name, tmp_path / "absent")
    lost = root / ("lists/test.txt" if name == "cub200" else "classes.txt")
    lost.unlink()
    with pytest.raises(UserError, match=f"CUB.* lacks {lost.relative_to(root)};"):
        load_data(name, root)


def test_a_listed_image_that_is_missing_is_named(cub):
    name, root, _ = cub
    (root / "images" / TRAIN[2]).unlink()
    with pytest.raises(UserError, match=f"1 of the 9 train images.*{TRAIN[2]}"):
        load_data(name, root)


def test_missing_annotations_are_none_and_damaged_ones_named(cub):
    name, root, _ = cub
    folder = root / "annotations-mat" if name == "cub200" else root.parent / "segmentations"
    part = load_data(name, root, val_fraction=0).train
    damaged = next(folder.glob(f"{TRAIN[1].removesuffix('.jpg')}.*"))
    damaged.write_bytes(b"damaged")
    with pytest.raises(UserError, match=damaged.name):
        part.mask(1)
    shutil.rmtree(folder)
    part = load_data(name, root, val_fraction=0).train
    assert part.mask(0) is None
    assert (part.box(0) is None) == (name == "cub200")


def test_lists_that_disagree_are_refused(cub_2010):
    test = (cub_2010 / "lists/test.txt").read_text().splitlines()
    (cub_2010 / "lists/test.txt").write_text("\n".join([*test, TRAIN[0]]))
    with pytest.raises(UserError, match=f"share {TRAIN[0]}"):
        load_data("cub200", cub_2010)
    (cub_2010 / "lists/test.txt").write_text("\n".join(file for file in test if "010." not in file))
    with pytest.raises(UserError, match=r"test list of .*missing there 010\.Red_winged_Blackbird"):
        load_data("cub200", cub_2010)


def test_tables_that_disagree_are_refused(cub_2011):
    lines = (cub_2011 / "bounding_boxes.txt").read_text().splitlines()
    (cub_2011 / "bounding_boxes.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(UserError, match="do not list the same images"):
        load_data("cub200_2011", cub_2011)
    (cub_2011 / "bounding_boxes.txt").write_text("\n".join([*lines[:-1], "15"]))
    with pytest.raises(UserError, match=r"bounding_boxes.txt has a line"):
        load_data("cub200_2011", cub_2011)
