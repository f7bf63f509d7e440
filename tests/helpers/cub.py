"""CUB-200-2010 and CUB-200-2011 as small copies of the published layouts."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

CLASSES = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "010.Red_winged_Blackbird"]
FILES = [f"{name}/{name[4:]}_{i:04}.jpg" for name in CLASSES for i in range(5)]
TRAIN = [file for file in FILES if file[-5] in "014"]
SIZE = (20, 14)  # width, height


def seg(i):
    """A rectangle of its own for each image."""
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[1 : 4 + i % 5, 2 : 6 + i % 7] = 1
    return mask


def write_images(root):
    for i, file in enumerate(FILES):
        path = root / "images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (10 * i, 0, 0)).save(path, quality=100)


@pytest.fixture
def cub_2010(tmp_path):
    root = tmp_path / "CUB-200"
    write_images(root)
    (root / "lists").mkdir()
    (root / "lists/train.txt").write_bytes("\r\n".join([*TRAIN, ""]).encode())
    (root / "lists/test.txt").write_text("\n".join(sorted(set(FILES) - set(TRAIN))))
    for i, file in enumerate(FILES):
        path = (root / "annotations-mat" / file).with_suffix(".mat")
        path.parent.mkdir(parents=True, exist_ok=True)
        box = {"left": 2 + i, "top": 1, "right": 9 + i, "bottom": 8}
        savemat(path, {"seg": seg(i), "bbox": box, "wikipedia_link": "x"})
    return root


@pytest.fixture
def cub_2011(tmp_path):
    root = tmp_path / "CUB_200_2011"
    write_images(root)
    order = range(len(FILES))
    tables = {
        "images": FILES,
        "image_class_labels": [CLASSES.index(file.split("/")[0]) + 1 for file in FILES],
        "train_test_split": [int(file in TRAIN) for file in FILES],
        "bounding_boxes": [f"{2.0 + i} 1.0 7.0 7.0" for i in order],
    }
    for name, values in tables.items():
        (root / f"{name}.txt").write_text("".join(f"{i + 1} {value}\n" for i, value in enumerate(values)))
    (root / "classes.txt").write_text("".join(f"{k + 1} {name}\n" for k, name in enumerate(CLASSES)))
    for i, file in enumerate(FILES):
        path = (tmp_path / "segmentations" / file).with_suffix(".png")  # beside the data set, as published
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(seg(i) * 204)
        (image.convert("LA") if i % 2 else image).save(path)
    return root


@pytest.fixture(params=[("cub200", "cub_2010", 1), ("cub200_2011", "cub_2011", 0.8)], ids=["2010", "2011"])
def cub(request):
    """Name and folder of a data set, and the mask's value where the bird is."""
    name, fixture, value = request.param
    return name, request.getfixturevalue(fixture), value
