"""Reading image files: every kind becomes upright 8-bit RGB, or an error that names the file."""

import numpy as np
import pytest
from PIL import Image

from sigmoid_vit.data import BadImage, images, read_image
from sigmoid_vit.data.images import upright_size

GREY = np.arange(256, dtype=np.uint8).reshape(8, 32)  # every level once, h = 8, w = 32
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def pixels(path):
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_image_upright(tmp_path, name, orientation):
    turn = {  # how a camera stores an upright image under each orientation
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turn(COLOUR))).save(tmp_path / name, exif=exif)
    assert np.array_equal(pixels(tmp_path / name), COLOUR)
    assert upright_size(tmp_path / name) == COLOUR.shape[:2]


@pytest.mark.parametrize(
    ("name", "dtype"), [("a.png", "<u2"), ("a.tif", "<u2"), ("a.tif", ">u2"), ("a.pgm", "<u2")]
)
def test_16_bit_greyscale_is_scaled_not_clipped(tmp_path, name, dtype):
    wide = (GREY.astype(np.uint16) * 257).astype(dtype)
    mode = "I;16" if dtype == "<u2" else "I;16B"
    Image.frombytes(mode, (32, 8), wide.tobytes()).save(tmp_path / name)
    assert np.array_equal(pixels(tmp_path / name), np.repeat(GREY[..., None], 3, axis=-1))


@pytest.mark.parametrize(
    ("image", "name", "expected"),
    [
        (Image.fromarray(GREY), "grey.bmp", np.repeat(GREY[..., None], 3, axis=-1)),
        (Image.fromarray(GREY > 127), "bits.png", np.repeat(GREY[..., None] > 127, 3, axis=-1) * 255),
        (Image.fromarray(np.dstack([COLOUR, GREY])), "alpha.png", COLOUR),
        (Image.fromarray(np.dstack([COLOUR, GREY])), "alpha.webp", None),
        (
            Image.fromarray(COLOUR).convert("P"),
            "palette.png",
            np.asarray(Image.fromarray(COLOUR).convert("P").convert("RGB")),
        ),
        (Image.fromarray(COLOUR).convert("CMYK"), "cmyk.tiff", COLOUR),
        (Image.fromarray(COLOUR), "UPPER.PNG", COLOUR),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_mode_becomes_rgb(tmp_path, image, name, expected):
    image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    found = pixels(tmp_path / name)
    assert found.shape == (8, 32, 3)
    assert expected is None or np.array_equal(found, expected)


def test_palette_with_transparency_and_cmyk_jpeg_and_camera_jpeg(tmp_path):
    flat = Image.new("RGB", (16, 16), (204, 102, 51))
    flat.convert("P").save(tmp_path / "p.png", transparency=bytes([0, 128, 255]))
    flat.convert("CMYK").save(tmp_path / "c.jpg", quality=95)
    flat.save(tmp_path / "m.jpg", format="MPO", save_all=True, append_images=[flat])
    for name, tolerance in (("p.png", 0), ("c.jpg", 4), ("m.jpg", 4)):
        assert np.abs(pixels(tmp_path / name).astype(int) - [204, 102, 51]).max() <= tolerance


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm"])
def test_truncated_files_of_every_format_are_bad(tmp_path, suffix):
    path = tmp_path / f"half{suffix}"
    Image.fromarray(np.random.RandomState(0).randint(256, size=(64, 64, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(BadImage, match=path.name):
            read_image(path)


def test_other_bad_files_say_why(tmp_path, monkeypatch):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_text("<html></html>")
    (tmp_path / "notes.txt").write_text("a note")
    Image.fromarray(np.full((4, 4), -1, np.float32)).save(tmp_path / "below.tif")
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tif")
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "wide.tif")
    Image.fromarray(COLOUR).save(tmp_path / "big.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 255)
    reasons = {
        "empty.jpg": r"empty \(0 bytes\)",
        "page.jpg": "not a readable image",
        "notes.txt": "not an image file",
        "below.tif": "pixels below 0",
        "nan.tif": "pixels below 0, or undefined",
        "wide.tif": "32-bit",
        "big.png": r"oversized \(32 x 8, limit 255 pixels\)",
        "absent.png": "cannot be read",
    }
    for name, reason in reasons.items():
        with pytest.raises(BadImage, match=f"{name}: .*{reason}"):
            read_image(tmp_path / name)
