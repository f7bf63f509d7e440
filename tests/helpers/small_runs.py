"""Small runs on image files, trained for an epoch: with images of one size, and of various sizes."""

import pytest
from helpers.images import make_folder, save_image
from helpers.runs import train

SMALL = ["patch_size=8", "depth=2", "embed_dim=32", "num_heads=2"]


def trained(folder, data):
    settings = ["--dataset", "folder", "--dataset_path", str(data), "--img_size", "32", "--epochs", "1"]
    settings += ["--pretrained", "false", "--model_name", "vit_tiny_patch16_224", "--batch_size", "4"]
    return train(folder, *settings, "--model_kwargs", *SMALL)


@pytest.fixture(scope="session")
def equal_sizes(tmp_path_factory):
    """A run on images of 20 x 20 pixels, which wait in their own size."""
    data = tmp_path_factory.mktemp("equal") / "data"
    for part, n in (("train", 6), ("val", 3), ("test", 4)):
        make_folder(data, {"傷": n, "良品": n}, part, (20, 20))
    return trained(data.parent, data)


@pytest.fixture(scope="session")
def various_sizes(tmp_path_factory):
    """A run on images smaller and larger than the network's input, which wait in its size."""
    data = tmp_path_factory.mktemp("various") / "data"
    for part in ("train", "val", "test"):
        for k, name in enumerate(("a", "b")):
            for i, size in enumerate([(20, 20), (50, 40), (12, 30), (33, 33)]):
                save_image(data / part / name / f"{i}.png", size, seed=10 * k + i)
    return trained(data.parent, data)
