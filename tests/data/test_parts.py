"""Batches hold every image once with its own pixels, label and id; bad files are named, or left out."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.images import collect, make_folder, save_image
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sigmoid_vit.data import epoch_batches, images, load_data, parts
from sigmoid_vit.errors import UserError


@given(n=st.integers(1, 50), batch_size=st.integers(1, 20), epoch=st.integers(0, 3))
def test_epoch_batches_hold_every_position_once(n, batch_size, epoch):
    batches = epoch_batches(n, batch_size, seed=0, epoch=epoch)
    assert sorted(np.concatenate(batches)) == list(range(n))
    assert [len(b) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= batch_size


def test_epoch_batches_are_a_function_of_seed_and_epoch():
    def order(seed, epoch, **kwargs):
        return np.concatenate(epoch_batches(100, 32, seed, epoch, **kwargs)).tolist()

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(*key)) for key in [(0, 0), (0, 1), (1, 0), (1, 1)]}) == 4
    assert order(1, 2, shuffle=False) == list(range(100))


def test_without_shared_memory_images_are_decoded_in_this_process(tmp_path, monkeypatch, capsys):
    part = load_data("folder", make_folder(tmp_path, {"a": 6, "b": 6}), val_fraction=0).train
    kept, decoded = part.prepare((16, 24)), part.prepare((16, 24), cache_gib=0, workers=2)
    order = [np.arange(8), np.arange(8, 12)]
    expected = collect(kept, order)
    assert all(map(torch.equal, collect(decoded, order), expected))
    assert capsys.readouterr().err == ""
    parts._free_memory.cache_clear()
    little = SimpleNamespace(f_bavail=1, f_frsize=4096)
    monkeypatch.setattr(parts.os, "statvfs", lambda path: little)
    assert all(map(torch.equal, collect(decoded, order), expected))
    told = capsys.readouterr().err
    assert "/dev/shm has 0 MiB free, but the batches of 2 decoding processes need" in told
    assert told.count("\n") == 1
    parts._free_memory.cache_clear()


@pytest.mark.parametrize("sizes", [[(40, 30), (20, 50)], [(12, 10)]], ids=["resized", "small"])
def test_pixels_are_the_same_from_memory_and_from_workers(tmp_path, sizes):
    for i in range(9):
        save_image(tmp_path / "train" / "ab"[i % 2] / f"{i}.png", sizes[i % len(sizes)], seed=i)
    part = load_data("folder", tmp_path, val_fraction=0).train
    kept = part.prepare((16, 24), workers=2)
    decoded = part.prepare((16, 24), cache_gib=0, workers=2)
    assert kept.images is not None
    assert decoded.images is None
    assert kept.size == decoded.size == ((10, 12) if len(sizes) == 1 else (16, 24))

    state = torch.get_rng_state()
    order = epoch_batches(len(part), 4, seed=0, epoch=0)
    for a, b in zip(collect(kept, order), collect(decoded, order), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    assert torch.equal(state, torch.get_rng_state())  # neither route moves the training's random state
    images, labels, index = collect(decoded, order)
    assert torch.equal(labels, torch.from_numpy(part.labels)[index])
    assert images.dtype == torch.uint8


def test_small_images_keep_their_pixels(tmp_path):
    make_folder(tmp_path, {"a": 2, "b": 2})
    part = load_data("folder", tmp_path, val_fraction=0).train
    expected = np.stack([np.asarray(Image.open(path)) for path in part.paths]).transpose(0, 3, 1, 2)
    assert np.array_equal(part.prepare((32, 32)).images, expected)


def test_larger_images_are_resized_as_pil_does(tmp_path):
    make_folder(tmp_path, {"a": 1, "b": 1}, size=(90, 60))
    part = load_data("folder", tmp_path, val_fraction=0).train
    for name, resample in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        expected = np.asarray(Image.open(part.paths[0]).resize((20, 30), resample)).transpose(2, 0, 1)
        assert np.array_equal(part.prepare((30, 20), interpolation=name).images[0], expected)


# --- bad files


def spoil(root):
    """One bad file of every kind beside 20 good ones; returns their names."""
    make_folder(root, {"a": 10, "b": 10}, size=(40, 30), suffix=".jpg")
    folder = root / "train" / "a"
    whole = (folder / "00.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("not an image at all")
    (folder / "film.mp4").write_bytes(b"a film")
    (root / "train" / "b" / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    Image.new("1", (4000, 3000)).save(root / "train" / "b" / "huge.png")
    return ["empty.png", "film.mp4", "huge.png", "script.png", "text.jpg", "truncated.jpg"]


def test_every_bad_file_is_named_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 11_999_999)
    bad = spoil(tmp_path)
    with pytest.raises(UserError) as error:
        load_data("folder", tmp_path, val_fraction=0).train.prepare((16, 16))
    text = str(error.value)
    assert all(name in text for name in bad)
    assert "6 of 26" in text
    assert "--skip_bad_images" in text
    assert ".jpg: not a readable image" in text
    assert "0 bytes" in text
    assert "oversized (4000 x 3000" in text
    assert "00.jpg" not in text


@pytest.mark.parametrize("cache_gib", [1.0, 0.0])
def test_skipped_files_leave_labels_and_pixels_aligned(tmp_path, monkeypatch, capsys, cache_gib):
    monkeypatch.setattr(images, "MAX_PIXELS", 11_999_999)
    bad = spoil(tmp_path)
    data = load_data("folder", tmp_path, val_fraction=0, skip_bad_images=True)
    prepared = data.train.prepare((16, 16), cache_gib=cache_gib, workers=2)
    assert sorted(path.path.name for path in data.skipped) == bad
    assert "6 of 26" in capsys.readouterr().out
    assert len(prepared) == 20
    assert not set(bad) & {Path(name).name for name in prepared.part.ids}
    pixels, labels, index = collect(prepared, epoch_batches(20, 8, 0, 0, shuffle=False))
    for i in index.tolist():
        path = prepared.part.paths[i]
        assert prepared.part.ids[i] == path.relative_to(tmp_path).as_posix()
        assert data.classes[labels[i]] == path.parent.name
        assert torch.equal(pixels[i], images.decode(path, (16, 16), "bicubic"))


def test_many_bad_files_are_counted_not_all_listed(tmp_path):
    make_folder(tmp_path, {"a": 1, "b": 1})
    for i in range(30):
        (tmp_path / "train" / "a" / f"bad{i:02}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"30 of 32(.|\n)*bad09(.|\n)*30 in all") as error:
        load_data("folder", tmp_path, val_fraction=0).train.prepare((16, 16))
    assert "bad10" not in str(error.value)


def test_a_class_that_loses_all_its_images_stops_the_run(tmp_path):
    make_folder(tmp_path, {"a": 2, "b": 1})
    (tmp_path / "train" / "b" / "00.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"no image is left of b"):
        load_data("folder", tmp_path, val_fraction=0, skip_bad_images=True).train.prepare((16, 16))


def test_a_cut_validation_part_may_lose_a_class(tmp_path):
    make_folder(tmp_path, {"a": 10, "b": 10})
    data = load_data("folder", tmp_path, skip_bad_images=True)
    b = next(path for path in data.val.paths if path.parent.name == "b")
    b.write_bytes(b"")
    assert [data.classes[k] for k in data.val.prepare((16, 16)).part.labels] == ["a"]
    assert [bad.path for bad in data.skipped] == [b]
