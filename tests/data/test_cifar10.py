"""CIFAR-10 as it is published, and one sentence when it is not there or damaged."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from sigmoid_vit.data import load_data
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


def test_damaged_or_absent_cifar10_is_one_sentence(cifar, tmp_path):
    (cifar / CIFAR10.base_folder / "data_batch_3").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"incomplete or damaged.*cifar-10-python.tar.gz"):
        load_data("cifar10", cifar)
    with pytest.raises(UserError, match=r"was not downloaded.*DATASET=folder"):
        load_data("cifar10", tmp_path / "elsewhere")
