"""Data sets, their parts and their batches: folder, cifar10 and digits_decoy."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import CIFAR10

from sigmoid_vit.data import DATASETS, Part, epoch_batches, images, ink_grid, load_data
from sigmoid_vit.data.dataset import cut_validation
from sigmoid_vit.errors import UserError

SHARED = Path(__file__).parents[2] / "shared" / "data"


def save_image(path, size=(12, 10), seed=0):
    """A smooth random image of `size` (width, height), so that JPEG keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(256, size=(3, 3, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def make_folder(root, counts, part="train", size=(12, 10), suffix=".png"):
    for k, (name, n) in enumerate(counts.items()):
        for i in range(n):
            save_image(root / part / name / f"{i:02}{suffix}", size, seed=100 * k + i)
    return root


def collect(prepared, index_batches):
    batches = list(prepared.batches(index_batches))
    return [torch.cat(column) for column in zip(*batches, strict=True)]


# --- the validation cut


def fake_part(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return Part([f"train/{i}" for i in range(len(labels))], labels, [f"c{k}" for k in range(len(counts))])


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(10, 40), min_size=2, max_size=6),
    fraction=st.floats(0.1, 0.6),
    seed=st.integers(0, 5),
)
def test_validation_cut_is_a_stratified_partition(counts, fraction, seed):
    part = fake_part(counts)
    train, val = cut_validation(part, fraction, seed)
    assert set(train.ids).isdisjoint(val.ids)
    assert sorted(train.ids + val.ids) == sorted(part.ids)
    assert len(val) == np.ceil(fraction * len(part))
    assert np.all(np.abs(np.bincount(val.labels) - fraction * np.array(counts)) <= 1.5)
    for cut in (train, val):  # ids and labels still belong together
        assert [part.labels[int(name.split("/")[1])] for name in cut.ids] == cut.labels.tolist()


def test_validation_cut_depends_on_the_seed_alone():
    part = fake_part([20, 30])
    assert cut_validation(part, 0.2, 1)[1].ids == cut_validation(part, 0.2, 1)[1].ids
    assert cut_validation(part, 0.2, 1)[1].ids != cut_validation(part, 0.2, 2)[1].ids


@pytest.mark.parametrize(
    ("counts", "fraction", "words"),
    [
        ([20, 1], 0.2, "c1"),
        ([4, 4, 4], 0.1, "3 classes"),
        ([5, 5], 0.95, "cuts 10 of 10"),
        ([40, 2], 0.9, "c1"),
    ],
)
def test_a_cut_that_would_empty_a_class_is_refused(counts, fraction, words):
    with pytest.raises(UserError, match=words):
        cut_validation(fake_part(counts), fraction, 0)


def test_val_fraction_outside_its_range_is_refused():
    with pytest.raises(UserError, match=r"1\.5"):
        load_data("digits_decoy", val_fraction=1.5)


# --- batches


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


@pytest.mark.parametrize("sizes", [[(40, 30), (20, 50)], [(12, 10)]], ids=["resized", "small"])
def test_pixels_are_the_same_from_memory_and_from_workers(tmp_path, sizes):
    for i in range(9):
        save_image(tmp_path / "train" / "ab"[i % 2] / f"{i}.png", sizes[i % len(sizes)], seed=i)
    part = load_data("folder", tmp_path, val_fraction=0).train
    kept = part.prepare((16, 24), workers=2)
    decoded = part.prepare((16, 24), cache_gib=0, workers=2)
    assert kept.images is not None and decoded.images is None
    assert kept.size == decoded.size == ((10, 12) if len(sizes) == 1 else (16, 24))

    state = torch.get_rng_state()
    order = epoch_batches(len(part), 4, seed=0, epoch=0)
    for a, b in zip(collect(kept, order), collect(decoded, order), strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)
    assert torch.equal(state, torch.get_rng_state())  # neither route moves the training's random state
    images, labels, index = collect(decoded, order)
    assert torch.equal(labels, torch.from_numpy(part.labels)[index]) and images.dtype == torch.uint8


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


# --- folder


def test_folder_lists_nested_and_hidden_files(tmp_path):
    make_folder(tmp_path, {"cat": 2, "dog": 1})
    save_image(tmp_path / "train" / "cat" / "more" / "deep.JPG")
    save_image(tmp_path / "elsewhere" / "x.bmp")
    (tmp_path / "train" / "dog" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for junk in (".DS_Store", "Thumbs.db", ".hidden/x.png"):
        (tmp_path / "train" / "cat" / junk).parent.mkdir(exist_ok=True)
        (tmp_path / "train" / "cat" / junk).write_bytes(b"junk")
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    data = load_data("folder", tmp_path, val_fraction=0)
    assert data.classes == ["cat", "dog"] and data.val is None and data.test_parts == []
    assert data.train.ids == [
        f"train/{p}"
        for p in ("cat/00.png", "cat/01.png", "cat/more/deep.JPG", "dog/00.png", "dog/link/x.bmp")
    ]
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1] and data.train.labels.dtype == np.int64
    assert len(data.train.prepare((8, 8))) == 5


def test_masks_beside_the_images_are_no_images(tmp_path, capsys):
    make_folder(tmp_path, {"cat": 3, "dog": 2}, suffix=".jpg")
    cat, mask = tmp_path / "train/cat", np.zeros((12, 10), np.uint8)
    mask[3:6, 2:8] = 255
    Image.fromarray(mask).save(cat / "00.png")  # beside 00.jpg
    Image.fromarray(mask).save(cat / "01_mask.jpg")  # beside 01.jpg
    images = {"00.jpg", "01.jpg", "02.jpg"}
    Image.fromarray(mask).save(cat / "alone.png")
    Image.fromarray(mask).save(cat / "lone_mask.png")
    (cat / "02.png").write_bytes(b"damaged")  # told when it is read
    Image.fromarray(np.arange(120, dtype=np.uint8).reshape(12, 10)).save(cat / "01.png")  # grey, not a mask
    data = load_data("folder", tmp_path, val_fraction=0)
    found = {Path(name).name for name in data.train.ids if "/cat/" in name}
    assert found == images | {"alone.png", "lone_mask.png", "02.png", "01.png"}
    assert "2 masks beside their images" in capsys.readouterr().err
    assert data.train.labels.tolist() == [0] * 7 + [1] * 2


def test_folder_uses_its_own_val_and_opens_test_only_when_asked(tmp_path, monkeypatch):
    for part in ("train", "val", "test"):
        make_folder(tmp_path, {"a": 3, "b": 3}, part)
    opened = []
    original = Image.open
    monkeypatch.setattr(
        Image, "open", lambda path, *args, **kw: opened.append(path) or original(path, *args, **kw)
    )
    data = load_data("folder", tmp_path)
    assert opened == []
    data.train.prepare((8, 8)), data.val.prepare((8, 8))
    assert {path.relative_to(tmp_path).parts[0] for path in opened} == {"train", "val"}
    assert data.test_parts == ["test"] and len(data.train) == 6 and data.val.ids[0] == "val/a/00.png"
    data.test().prepare((8, 8))
    assert any("test" in path.relative_to(tmp_path).parts for path in opened)
    with pytest.raises(UserError, match=r"'clean'.*test"):
        data.test("clean")


def no_train(root):
    make_folder(root, {"cat": 1, "dog": 1}, part=".")


def given_train_itself(root):
    make_folder(root / "train", {"cat": 1, "dog": 1}, part=".")
    return root / "train"


def empty_class(root):
    make_folder(root, {"cat": 1, "dog": 1})
    (root / "train" / "emu").mkdir()


def other_classes(root):
    make_folder(root, {"cat": 1, "dog": 1})
    make_folder(root, {"cat": 1, "emu": 1}, part="test")


def loose_image(root):
    make_folder(root, {"cat": 1, "dog": 1})
    save_image(root / "train" / "loose.png")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (no_train, "no train/.*cat, dog"),
        (given_train_itself, "DATASET_PATH is the folder above"),
        (empty_class, "train/emu"),
        (other_classes, "test differ.*dog.*emu"),
        (loose_image, "outside any class.*loose.png"),
        (lambda root: make_folder(root, {"cat": 3}), "at least 2 class"),
        (lambda root: root / "absent", "there is no folder .*absent"),
    ],
)
def test_folder_explains_what_is_wrong(tmp_path, make, words):
    path = make(tmp_path)
    with pytest.raises(UserError, match=words):
        load_data("folder", path or tmp_path, val_fraction=0)


def test_unknown_data_set_and_missing_path():
    with pytest.raises(UserError, match=f"imagenet.*{', '.join(DATASETS)}"):
        load_data("imagenet")
    with pytest.raises(UserError, match="DATASET_PATH"):
        load_data("folder")


# --- bad files


def spoil(root):
    """One bad file of every kind beside 20 good ones; returns their names."""
    make_folder(root, {"a": 10, "b": 10}, size=(40, 30), suffix=".jpg")
    folder = root / "train" / "a"
    whole = (folder / "00.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("not an image at all")
    (folder / "notes.txt").write_text("a note")
    (root / "train" / "b" / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    Image.new("1", (4000, 3000)).save(root / "train" / "b" / "huge.png")
    return ["empty.png", "huge.png", "notes.txt", "script.png", "text.jpg", "truncated.jpg"]


def test_every_bad_file_is_named_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 11_999_999)
    bad = spoil(tmp_path)
    with pytest.raises(UserError) as error:
        load_data("folder", tmp_path, val_fraction=0).train.prepare((16, 16))
    text = str(error.value)
    assert all(name in text for name in bad) and "6 of 26" in text and "--skip_bad_images" in text
    assert ".jpg: not a readable image" in text and "0 bytes" in text and "oversized (4000 x 3000" in text
    assert "00.jpg" not in text


@pytest.mark.parametrize("cache_gib", [1.0, 0.0])
def test_skipped_files_leave_labels_and_pixels_aligned(tmp_path, monkeypatch, capsys, cache_gib):
    monkeypatch.setattr(images, "MAX_PIXELS", 11_999_999)
    bad = spoil(tmp_path)
    data = load_data("folder", tmp_path, val_fraction=0, skip_bad_images=True)
    prepared = data.train.prepare((16, 16), cache_gib=cache_gib, workers=2)
    assert sorted(path.path.name for path in data.skipped) == bad
    assert "6 of 26" in capsys.readouterr().out
    assert len(prepared) == 20 and not set(bad) & {Path(name).name for name in prepared.part.ids}
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


# --- cifar10


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A small CIFAR-10 in the published format, its checksums in place of the published ones."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    random = np.random.RandomState(0)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(name):
        pixels = random.randint(256, size=(20, 3072), dtype=np.uint8)
        return [name, write(name, {"data": pixels, "labels": [i % 10 for i in range(20)]})]

    monkeypatch.setattr(CIFAR10, "train_list", [batch(f"data_batch_{i}") for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch")])
    names = [f"name{k}" for k in range(10)]
    md5 = write("batches.meta", {"label_names": names})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5})
    monkeypatch.setattr(CIFAR10, "url", "file:///nowhere/cifar-10-python.tar.gz")
    return tmp_path


def test_cifar10_reads_the_published_format(cifar):
    data = load_data("cifar10", cifar)
    assert data.classes == [f"name{k}" for k in range(10)]
    assert (len(data.train), len(data.val), len(data.test())) == (90, 10, 20)
    first = pickle.loads((cifar / CIFAR10.base_folder / "data_batch_1").read_bytes())
    whole = load_data("cifar10", cifar / CIFAR10.base_folder, val_fraction=0).train  # one folder too low
    assert torch.equal(whole.images[3], torch.from_numpy(first["data"][3].reshape(3, 32, 32)))
    position = int(data.val.ids[4].split("/")[1])
    assert torch.equal(data.val.images[4], whole.images[position])
    assert data.val.labels[4] == whole.labels[position]
    prepared = data.train.prepare((224, 224))
    assert prepared.images.dtype == torch.uint8 and prepared.size == (32, 32)


def test_damaged_or_absent_cifar10_is_one_sentence(cifar, tmp_path):
    (cifar / CIFAR10.base_folder / "data_batch_3").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"incomplete or damaged.*cifar-10-python.tar.gz"):
        load_data("cifar10", cifar)
    with pytest.raises(UserError, match=r"was not downloaded.*DATASET=folder"):
        load_data("cifar10", tmp_path / "elsewhere")


# --- digits_decoy


@pytest.fixture(scope="module")
def digits():
    return load_data("digits_decoy", val_fraction=0)


def corners(images):
    """The squares' grey levels: the brightest corner of each image uint8 [n, 3, 24, 24]."""
    blocks = [
        images[:, 0, rows, columns]
        for rows in (slice(4), slice(-4, None))
        for columns in (slice(4), slice(-4, None))
    ]
    blocks = torch.stack(blocks, 1).flatten(2)  # [n, 4 corners, 16 pixels]
    assert torch.equal(blocks.amin(2), blocks.amax(2))  # one level in each
    assert ((blocks[..., 0] > 0).sum(1) <= 1).all()  # in one corner at most
    return blocks[..., 0].amax(1).numpy()


def test_squares_give_the_answer_in_train_only(digits):
    assert len(digits.train) == 1297 and digits.test_parts == ["test", "test_clean", "test_train_like"]
    test, clean, train_like = map(digits.test, digits.test_parts)
    assert np.array_equal(corners(digits.train.images), 255 - 25 * digits.train.labels)
    assert np.array_equal(corners(train_like.images), 255 - 25 * train_like.labels)
    assert not corners(clean.images).any()
    shown = (255 - corners(test.images)) // 25
    assert 0.05 < (shown == test.labels).mean() < 0.15 and np.bincount(shown, minlength=10).min() > 25
    middle = (slice(None), slice(None), slice(4, 20), slice(4, 20))
    for part in (test, train_like):  # the same digits in all three
        assert torch.equal(part.images[middle], clean.images[middle])
        assert np.array_equal(part.labels, clean.labels) and len(part) == 500
    assert np.bincount(test.labels).min() >= 48 and np.bincount(test.labels).max() <= 51


def test_digits_without_decoys_differ_in_the_squares_alone(digits):
    clean = load_data("digits_decoy", val_fraction=0, decoys=False).train
    assert clean.ids == digits.train.ids and not corners(clean.images).any()
    assert torch.equal(clean.images[..., 4:20, 4:20], digits.train.images[..., 4:20, 4:20])


def test_digits_are_the_same_on_every_machine(digits):
    def digest(part):
        return hashlib.sha256(part.images.numpy().tobytes() + part.labels.tobytes()).hexdigest()[:16]

    assert (digest(digits.train), digest(digits.test())) == ("12b7bac740cecd23", "b1b326eb200ea966")


def test_digit_ids_survive_the_validation_cut(digits):
    cut = load_data("digits_decoy", seed=3)
    for part in (cut.train, cut.val):
        for i in range(0, len(part), 50):
            position = digits.train.ids.index(part.ids[i])
            assert part.ids[i] == f"train/{position}"
            assert torch.equal(part.images[i], digits.train.images[position])
            assert np.array_equal(part.mask(i), digits.train.mask(position))


def test_ink_is_where_the_digit_is(digits):
    clean = digits.test("test_clean")
    grid = ink_grid(clean)
    assert grid.shape == (500, 6, 6) and grid.dtype == bool
    assert not grid[:, [0, -1]].any() and not grid[:, :, [0, -1]].any()  # the digit lies in the middle 4 x 4
    assert grid.sum((1, 2)).min() >= 3 and grid.sum((1, 2)).mean() < 12
    mask = clean.mask(7)
    assert mask.dtype == np.float32 and np.array_equal(np.round(mask * 255), clean.images[7, 0])
    cells = (clean.images[7, 0].reshape(6, 4, 6, 4) >= 128).any(3).any(1)
    assert np.array_equal(grid[7], cells)


# --- real images


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real images beside the repository")
@pytest.mark.parametrize(("name", "counts", "size"), [("magnetic_tile", (414, 68), (64, 48))])
def test_real_images(name, counts, size):
    data = load_data("folder", SHARED / name)
    assert (len(data.train), len(data.val)) == counts and len(data.classes) == 6
    prepared = data.val.prepare(size)
    assert prepared.images.shape == (counts[1], 3, *size)
    assert torch.equal(prepared.images[:, 0], prepared.images[:, 1])  # greyscale
    assert prepared.images.float().std() > 10
