"""`digits_decoy`: real digits beside a grey square that gives the class away, in train only.

The Decoy benchmark of Ross et al. (2017), "Right for the Right Reasons", on scikit-learn's embedded digits:
a network that learns the square instead of the digit is right on train and wrong on test.
"""

from functools import partial
from typing import ClassVar

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import adaptive_max_pool2d

from sigmoid_vit.data.dataset import DataModule
from sigmoid_vit.data.parts import Part

SIZE, SQUARE = 24, 4  # side of the image and of the square, in pixels
ENLARGED = 2  # pixels to the side of a digit's pixel
N_TEST = 500
INK = 0.5  # share of full ink from which a pixel counts as written


class DigitsDecoy(DataModule):
    """1,297 train and 500 test digits, 24 x 24, each with a 4 x 4 square in a random corner.

    The square's grey is 255 - 25 x label in train and in `test_train_like`, 255 - 25 x a random digit in
    `test`; `test_clean` has none. The three test parts show the same digits. `decoys=False` leaves the
    squares out of train as well (the upper bound). Every draw is from numpy's frozen RandomState, so the
    data are the same on every machine.
    """

    part_names = ("train", "test", "test_clean", "test_train_like")
    options: ClassVar[dict] = {"decoys": bool}
    defaults: ClassVar[dict] = {
        "model_name": "vit_tiny_patch16_224",
        "model_kwargs": {"patch_size": 4, "embed_dim": 64, "depth": 3, "num_heads": 2},
        "img_size": SIZE,
        "pretrained": "false",
        "batch_size": 64,
        "opt": "adamw",
        "lr": 2e-3,
        "warmup": 0.3,
        "weight_decay": 0.05,
        "epochs": 20,
        "hflip": 0.0,  # a mirrored digit is another one, or none
        "crop_scale": 1.0,
    }

    def __init__(self, *args, decoys: bool = True, **kwargs):
        self.decoys = decoys
        super().__init__(*args, **kwargs)

    def find(self, path: object) -> None:
        """Nothing to find: the digits come with scikit-learn, and a path is not used."""

    def read(self, name: str) -> Part:
        digits = load_digits()
        n, random = len(digits.target), np.random.RandomState(0)
        order = random.permutation(n)
        corner, digit = (random.randint(k, size=n, dtype=np.int64) for k in (4, 10))
        order = order[np.argsort(digits.target[order], kind="stable")]  # shuffled within each class
        test = np.zeros(n, dtype=bool)
        test[order[np.arange(N_TEST) * n // N_TEST]] = True  # evenly spaced: stratified, exactly N_TEST
        chosen = np.flatnonzero(test if name.startswith("test") else ~test)

        labels = digits.target[chosen].astype(np.int64)
        ink = _ink(digits.images[chosen])  # [n, SIZE, SIZE] in 0..1
        images = np.round(ink * 255).astype(np.uint8)
        if name != "test_clean" and (self.decoys or name != "train"):
            shown = digit[chosen] if name == "test" else labels
            _add_squares(images, corner[chosen], 255 - 25 * shown)
        return Part(
            ids=[f"{name}/{i}" for i in range(len(chosen))],
            labels=labels,
            classes=[str(k) for k in range(10)],
            images=torch.from_numpy(images)[:, None].repeat(1, 3, 1, 1),  # [n, 3, SIZE, SIZE]
            masks=[partial(np.copy, image) for image in ink],
        )


def _ink(digits: np.ndarray) -> np.ndarray:
    """Digits [n, 8, 8] of values 0..16, enlarged and centred: float32 [n, SIZE, SIZE] in 0..1."""
    enlarged = np.kron(digits / 16, np.ones((1, ENLARGED, ENLARGED))).astype(np.float32)
    margin = (SIZE - enlarged.shape[-1]) // 2
    return np.pad(enlarged, ((0, 0), (margin, margin), (margin, margin)))


def _add_squares(images: np.ndarray, corner: np.ndarray, grey: np.ndarray) -> None:
    far = SIZE - SQUARE
    for image, bottom, right, value in zip(images, corner // 2, corner % 2, grey, strict=True):
        top, left = bottom * far, right * far
        image[top : top + SQUARE, left : left + SQUARE] = value


def ink_grid(part: Part, grid: tuple[int, int] = (6, 6)) -> np.ndarray:
    """Which cells of a patch grid hold ink of the digit: bool [n, gh, gw].

    A cell counts as ink when its strongest pixel has at least half of full ink (8 of the digits' 0..16).
    """
    ink = torch.from_numpy(np.stack([part.mask(i) for i in range(len(part))]))  # [n, SIZE, SIZE]
    return (adaptive_max_pool2d(ink[:, None], grid)[:, 0] >= INK).numpy()
