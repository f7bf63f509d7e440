"""CIFAR-10 as it is published, and one sentence when it is not there or damaged."""

import hashlib
import io
import pickle
import shutil
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import CIFAR10

from sigmoid_vit.data import cifar10_forms, load_data
from sigmoid_vit.errors import UserError


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
    assert prepared.images.dtype == torch.uint8
    assert prepared.size == (32, 32)


def binary(folder, batches):
    for name, pixels, labels in batches:
        (folder / f"{name}.bin").write_bytes(np.concatenate((labels[:, None], pixels), 1).tobytes())


def matlab(folder, batches):
    for name, pixels, labels in batches:
        savemat(folder / f"{name}.mat", {"data": pixels, "labels": labels[:, None]})


def parquet(folder, batches):
    arrow, write = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet").write_table
    for part, of in (("train", batches[:-1]), ("test", batches[-1:])):
        pictures = []
        for row in np.concatenate([pixels for _, pixels, _ in of]).reshape(-1, 3, 32, 32):
            file = io.BytesIO()
            Image.fromarray(row.transpose(1, 2, 0)).save(file, "png")
            pictures.append({"bytes": file.getvalue(), "path": None})
        labels = np.concatenate([labels for _, _, labels in of])
        write(arrow.table({"img": pictures, "label": labels}), folder / f"{part}-00000-of-00001.parquet")


FORMS = {
    "binary": (binary, "cifar-10-batches-bin", ""),
    "binary archive": (binary, "cifar-10-batches-bin", "cifar-10-binary.tar.gz"),
    "matlab": (matlab, "cifar-10-batches-mat", ""),
    "matlab archive": (matlab, "cifar-10-batches-mat", "cifar-10-matlab.tar.gz"),
    "parquet": (parquet, "plain_text", ""),
}


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_hold_the_same(cifar, tmp_path, monkeypatch, form):
    monkeypatch.setattr(cifar10_forms, "PER_CLASS", {"train": 10, "test": 2})
    write, name, archive = FORMS[form]
    published = [
        pickle.loads((cifar / CIFAR10.base_folder / b).read_bytes())
        for b in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    ]
    names = [*cifar10_forms.BATCHES["train"], *cifar10_forms.BATCHES["test"]]
    batches = [
        (name, b["data"], np.array(b["labels"], np.uint8)) for name, b in zip(names, published, strict=True)
    ]
    folder = tmp_path / "other" / name
    folder.mkdir(parents=True)
    write(folder, batches)
    if archive:
        with tarfile.open(folder.parent / archive, "w:gz") as file:
            file.add(folder, name)
        shutil.rmtree(folder)
    expected, found = load_data("cifar10", cifar), load_data("cifar10", folder.parent)
    for own, other in ((expected.train, found.train), (expected.val, found.val)):
        assert own.ids == other.ids
        assert (own.labels == other.labels).all()
        assert torch.equal(own.images, other.images)
    assert torch.equal(expected.test().images, found.test().images)
    monkeypatch.setattr(cifar10_forms, "PER_CLASS", {"train": 11, "test": 2})
    with pytest.raises(UserError, match=r"incomplete: its train part has .* and not 11 of each"):
        load_data("cifar10", folder.parent)


def test_what_is_damaged_or_no_published_form_is_said(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for i in range(1, 6):
        (folder / f"data_batch_{i}.bin").write_bytes(b"damaged")
    with pytest.raises(UserError, match="is damaged"):
        load_data("cifar10", tmp_path)
    (folder / "data_batch_5.bin").unlink()
    with pytest.raises(UserError, match=r"incomplete or damaged.*data_batch_5"):
        load_data("cifar10", folder)
    (tmp_path / "images" / "train" / "airplane").mkdir(parents=True)
    with pytest.raises(UserError, match="use DATASET=folder"):
        load_data("cifar10", tmp_path / "images")


def test_damaged_or_absent_cifar10_is_one_sentence(cifar, tmp_path):
    (cifar / CIFAR10.base_folder / "data_batch_3").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"incomplete or damaged.*cifar-10-python.tar.gz"):
        load_data("cifar10", cifar)
    with pytest.raises(UserError, match=r"was not downloaded.*DATASET=folder"):
        load_data("cifar10", tmp_path / "elsewhere")
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "cifar10.zip").touch()
    with pytest.raises(UserError, match=r"there lies cifar10\.zip"):
        load_data("cifar10", tmp_path / "archives")
