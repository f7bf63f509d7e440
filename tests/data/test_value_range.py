"""Deep images: one range for a data set, found in its training images and kept by the run."""

import json
import struct
import zlib

import numpy as np
import pytest
import torch
from helpers.editing import SMALL, open_page
from helpers.runs import settings, untrained_run
from PIL import Image

from sigmoid_vit.data import BadImage, Part, ValueRange, load_data, read_image
from sigmoid_vit.data import images as images_module
from sigmoid_vit.data.value_range import FLOAT, INTEGER, white
from sigmoid_vit.files import sealed, write_json
from sigmoid_vit.runs.folder import Run, open_data
from sigmoid_vit.runs.network import Network
from sigmoid_vit.training.trainer import Trainer

TWELVE = np.arange(4096).reshape(64, 64)


def save(path, values, dtype=np.uint16):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values).astype(dtype)).save(path)
    return path


def grey(image):
    return np.asarray(image)[..., 0].astype(int)


def a_folder(root, suffix=".png", dtype=np.uint16, scale=1.0):
    """Images of two classes that use 12 bits: one of each class is bright, the others are dark."""
    for part, n in (("train", 6), ("val", 2), ("test", 2)):
        for k, name in enumerate("ab"):
            for i in range(n):
                top = 4000 if i == 0 and part == "train" else 400 + 100 * k
                values = np.linspace(0, top, 1024).reshape(32, 32) * scale
                save(
                    root / part / name / f"{i}{suffix}",
                    values if dtype == np.float32 else values.round(),
                    dtype,
                )
    return root


def options(root):
    return ["--dataset", "folder", "--dataset_path", str(root), *SMALL, "--epochs", "1", "--batch_size", "4"]


@pytest.mark.parametrize(
    ("kind", "largest", "expected"),
    [
        *((INTEGER, 3, 255), (INTEGER, 256, 1023), (INTEGER, 1023, 1023), (INTEGER, 1024, 4095)),
        *((INTEGER, 5000, 16383), (INTEGER, 65535, 65535), (FLOAT, 0.2, 1), (FLOAT, 1, 1), (FLOAT, 1.5, 255)),
        *((FLOAT, 4095, 4095), (FLOAT, 4095.5, 16383), (FLOAT, 1e6, 1e6)),
    ],
)
def test_white_is_the_end_of_the_smallest_depth(kind, largest, expected):
    assert white(kind, largest) == expected


@pytest.mark.parametrize(
    ("name", "dtype"), [("a.png", "<u2"), ("a.tif", "<u2"), ("a.tif", "<i4"), ("a.tif", "<f4")]
)
def test_a_12_bit_image_keeps_its_levels(tmp_path, name, dtype):
    found = grey(read_image(save(tmp_path / name, TWELVE, dtype)))
    assert len(np.unique(found)) == 256
    assert np.abs(found - TWELVE * 255 / 4095).max() <= 0.5


def test_floating_point_from_0_to_1(tmp_path):
    values = np.linspace(0, 1, 256).reshape(16, 16)
    assert np.array_equal(
        grey(read_image(save(tmp_path / "a.tif", values, np.float32))).ravel(), np.arange(256)
    )


def test_images_of_8_bits_need_no_range(tmp_path, monkeypatch):
    """They are what they were, whatever the range; no file is looked through."""
    monkeypatch.setattr(images_module, "_largest_values", pytest.fail)
    pixels = np.arange(192).reshape(8, 8, 3)
    path = save(tmp_path / "train/a/0.png", pixels, np.uint8)
    save(tmp_path / "train/b/0.png", pixels, np.uint8)
    data = load_data("folder", tmp_path, val_fraction=0)
    assert np.array_equal(data.train.decode(0, (8, 8), "bicubic").permute(1, 2, 0), pixels)
    assert np.array_equal(read_image(path, values=data.value_range), pixels)
    assert data.value_range.as_dict() is None


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_images_of_one_set_keep_their_relation(tmp_path, dtype):
    suffix = ".png" if dtype == np.uint16 else ".tif"
    data = load_data("folder", a_folder(tmp_path, suffix, dtype))
    for part in (data.train, data.val, data.test()):
        for i, path in enumerate(part.paths):
            values = np.asarray(Image.open(path)).astype(float)
            assert (
                np.abs(part.decode(i, (32, 32), "bicubic")[0].numpy() - values * 255 / 4095).max() <= 0.5001
            )
    kind = INTEGER if dtype == np.uint16 else FLOAT
    assert data.value_range.as_dict() == {kind: 4095}


def test_a_run_keeps_the_range(tmp_path, capsys):
    """Evaluation, editor and Step 2 read as the training did, also when there are brighter images now."""
    trainer = Trainer(settings(tmp_path, *options(a_folder(tmp_path / "data"))))
    trainer.prepare()
    trainer.fit()
    run, pixels = trainer.run, trainer.val.images
    assert run.facts()["value_range"] == {"integer": 4095}
    assert "black is 0, white is 4095 (integer)" in capsys.readouterr().out
    save(tmp_path / "data/train/a/9.png", np.full((32, 32), 60000))
    for data in (
        run.open_data(),
        Run(run.folder).open_data(settings=settings(tmp_path, *options(tmp_path / "data"))),
    ):
        assert torch.equal(data.val.prepare((32, 32)).images, pixels)
    with open_page(run, tmp_path / "edits.sqlite", split="val") as page:
        assert torch.equal(torch.stack([page.session.images.pixels(i) for i in range(len(pixels))]), pixels)
        assert page.session.images._image(0, 64).getextrema()[0] == (0, round(400 * 255 / 4095))
    network = Network.of_run(run)
    for i, path in enumerate(network.run.open_data().val.paths):
        assert torch.equal(network.pixels(path), pixels[i])
    new = open_data(run.settings())  # a new Step 1 would take the new range
    assert new.train.decode(0, (32, 32), "bicubic").max() == round(4000 * 255 / 65535)


def test_a_run_of_before_goes_on_as_it_was(tmp_path):
    run = untrained_run(tmp_path, *options(a_folder(tmp_path / "data")))
    facts = run.facts()
    assert facts.pop("value_range", None) is None
    write_json(run.config, sealed(facts))
    pixels = run.open_data().train.decode(0, (32, 32), "bicubic")
    assert pixels.max() == round(4000 / 257)
    save(tmp_path / "data/test/a/7.tif", np.ones((32, 32)), np.float32)
    test = run.open_data().test()
    with pytest.raises(
        BadImage, match=r"7.tif: has floating-point pixels, which the training images did not"
    ):
        test.decode([path.name for path in test.paths].index("7.tif"), (32, 32), "bicubic")


def test_what_is_brighter_than_white_is_said(tmp_path, capsys):
    paths = [
        save(tmp_path / name, np.full((4, 4), value)) for name, value in (("a.png", 5000), ("b.png", 4000))
    ]
    part = Part(
        ["a", "b"],
        np.zeros(2, int),
        ["k"],
        paths,
        value_range=ValueRange(known=json.loads('{"integer": 4001}')),
    )
    assert [part.decode(i, (4, 4), "bicubic").max() for i in (0, 1)] == [255, 255]
    assert f"values above 4001, the first {paths[0]}" in capsys.readouterr().err


def test_colours_of_16_bits_are_said_to_be_cut(tmp_path, capsys):
    images_module._warn_once.cache_clear()
    plain = Image.fromarray(np.zeros((4, 4, 3), np.uint8))
    plain.save(tmp_path / "a.png")
    read_image(tmp_path / "a.png")
    assert capsys.readouterr().err == ""
    (tmp_path / "b.png").write_bytes(png_of_16_bit_colours(4, 4))
    read_image(tmp_path / "b.png")
    assert "16-bit colours keep their upper 8 bits" in capsys.readouterr().err


def png_of_16_bit_colours(width, height):
    """A PNG by its definition, as PIL writes none."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = (b"\0" + b"\x12\x34" * 3 * width) * height
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    content = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(content)
