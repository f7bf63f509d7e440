"""Data sets, their parts, and the batches a network is trained on.

    data = load_data("folder", "my_images")
    train = data.train.prepare(img_size=(224, 224))
    transform = BatchTransform(224, mean, std, "bicubic", train=True, seed=seed, n=len(train))
    for images, labels, index in train.batches(epoch_batches(len(train), batch_size, seed, epoch)):
        x = transform(images.to(device), index, epoch)  # float32 [B, 3, 224, 224]

A further data set is one module with a subclass of `DataModule` and a line in `DATASETS`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sigmoid_vit.data.augmentation import BatchTransform
from sigmoid_vit.data.cifar10 import Cifar10
from sigmoid_vit.data.cub import Cub, Cub2010, Cub2011
from sigmoid_vit.data.dataset import DataModule
from sigmoid_vit.data.digits import DigitsDecoy, ink_grid
from sigmoid_vit.data.folder import ImageFolder
from sigmoid_vit.data.groups import group_numbers
from sigmoid_vit.data.images import BadImage, read_image
from sigmoid_vit.data.look_alikes import look_alikes
from sigmoid_vit.data.parts import Part, Prepared, epoch_batches
from sigmoid_vit.data.value_range import ValueRange
from sigmoid_vit.errors import UserError

__all__ = [
    "DATASETS",
    "BadImage",
    "BatchTransform",
    "DataModule",
    "Part",
    "Prepared",
    "ValueRange",
    "epoch_batches",
    "group_numbers",
    "ink_grid",
    "known_ids",
    "load_data",
    "look_alikes",
    "read_image",
]

DATASETS: dict[str, type[DataModule]] = {
    "cifar10": Cifar10,
    "cub200": Cub2010,
    "cub200_2011": Cub2011,
    "digits_decoy": DigitsDecoy,
    "folder": ImageFolder,
}


def load_data(
    name: str,
    path: str | Path | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    skip_bad_images: bool = False,
    group_by: str = "",
    kept: Mapping[str, Sequence[str]] | None = None,
    value_range: ValueRange | None = None,
    **options,
) -> DataModule:
    """List a data set's images and cut its validation part; no image file is opened yet.

    `path` is the folder of the data set, `group_by` says which of its images belong together, `kept` which
    ids a run has in train and val, `value_range` what it knows of deep images. `options` are those of the
    data set's class (digits_decoy: decoys).
    Raises `UserError` for an unknown name, and for files that are missing or not what they should be.
    """
    if name not in DATASETS:
        raise UserError(f"there is no data set {name!r}; the valid names are {', '.join(DATASETS)}")
    kind = DATASETS[name]
    for option, value in options.items():
        if not isinstance(value, kind.options.get(option, ())):
            there = ", ".join(f"{key}=({what.__name__})" for key, what in kind.options.items()) or "none"
            raise UserError(f"{name} has no option {option}={value!r}; its options: {there}")
    return kind(path, val_fraction, seed, skip_bad_images, group_by, kept, value_range, **options)


def known_ids(data: DataModule, part: Part | None = None) -> list[str]:
    """Ids of all images of the data set, as far as they are known without opening a test part but `part`."""
    if isinstance(data, Cub):
        return [f"images/{file}" for files in data.files.values() for file in files]
    return [*data.all_ids, *(part.ids if part else ())]
