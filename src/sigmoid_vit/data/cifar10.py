"""`cifar10`: CIFAR-10 in any published form, or downloaded and checked by torchvision, 32 x 32 in memory."""

import zlib
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError

import numpy as np
import torch
from torchvision.datasets import CIFAR10

from sigmoid_vit.data.cifar10_forms import CLASSES, FOLDERS, read_form
from sigmoid_vit.data.dataset import DataModule
from sigmoid_vit.data.images import listed
from sigmoid_vit.data.parts import Part
from sigmoid_vit.errors import UserError


class Cifar10(DataModule):
    """50,000 train and 10,000 test images of 10 classes, uint8."""

    default_path = "data"
    downloads = True

    def find(self, path: Path) -> Path:
        root = path.parent if path.name in (CIFAR10.base_folder, *FOLDERS.values()) else path
        if (root / "train" / CLASSES[0]).is_dir():
            raise UserError(f"{root} holds CIFAR-10 as files in class folders: use DATASET=folder")
        return root

    def read(self, name: str) -> Part:
        pixels, labels, classes = self._load(name)
        images = torch.from_numpy(np.ascontiguousarray(pixels))  # [n, 3, 32, 32]
        return Part([f"{name}/{i}" for i in range(len(images))], labels, classes, images=images)

    def _load(self, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Pixels uint8 [n, 3, 32, 32], labels [n] and the names of the classes."""
        there = [self.root / CIFAR10.base_folder, self.root / CIFAR10.filename]
        damaged = any(path.exists() for path in there)
        if not damaged and (found := read_form(self.root, name)):
            return *found, list(CLASSES)
        try:
            data = CIFAR10(self.root, train=name == "train", download=True)
        except (OSError, RuntimeError, HTTPException, TarError, EOFError, zlib.error) as error:
            state = (
                "is incomplete or damaged, and was not downloaded again" if damaged else "was not downloaded"
            )
            lies = sorted(path.name for path in self.root.iterdir()) if self.root.is_dir() else []
            there = f"; there lies {listed(lies)}" if lies and not damaged else ""
            raise UserError(
                f"CIFAR-10 in {self.root} {state} ({error}): put cifar-10-python.tar.gz or the folder "
                f"{CIFAR10.base_folder} from {CIFAR10.url} there, or use images of your own "
                f"(DATASET=folder){there}"
            ) from error
        return data.data.transpose(0, 3, 1, 2), np.asarray(data.targets, dtype=np.int64), list(data.classes)
