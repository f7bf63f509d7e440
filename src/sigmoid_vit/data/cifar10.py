"""`cifar10`: CIFAR-10, downloaded once and checked by torchvision, 32 x 32 pixels in memory."""

import zlib
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError

import numpy as np
import torch
from torchvision.datasets import CIFAR10

from sigmoid_vit.data.dataset import DataModule
from sigmoid_vit.data.parts import Part
from sigmoid_vit.errors import UserError


class Cifar10(DataModule):
    """50,000 train and 10,000 test images of 10 classes, uint8."""

    default_path = "data"

    def find(self, path: Path) -> Path:
        return path.parent if path.name == CIFAR10.base_folder else path

    def read(self, name: str) -> Part:
        data = self._load(train=name == "train")
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()  # [n, 3, 32, 32]
        ids = [f"{name}/{i}" for i in range(len(images))]
        return Part(ids, np.asarray(data.targets, dtype=np.int64), list(data.classes), images=images)

    def _load(self, train: bool) -> CIFAR10:
        there = [self.root / CIFAR10.base_folder, self.root / CIFAR10.filename]
        damaged = any(path.exists() for path in there)
        try:
            return CIFAR10(self.root, train=train, download=True)
        except (OSError, RuntimeError, HTTPException, TarError, EOFError, zlib.error) as error:
            state = (
                "is incomplete or damaged, and was not downloaded again" if damaged else "was not downloaded"
            )
            raise UserError(
                f"CIFAR-10 in {self.root} {state} ({error}): put cifar-10-python.tar.gz or the folder "
                f"{CIFAR10.base_folder} from {CIFAR10.url} there, or use images of your own (DATASET=folder)"
            ) from error
