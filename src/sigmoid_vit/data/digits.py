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
GRID = SIZE // SQUARE  # cells a side
DIGIT, SMALL_DIGIT = 16, 12  # side of a digit that lies in the middle, and of one that lies anywhere
N_TEST = 500
INK = 0.5  # share of full ink from which a pixel counts as written


class DigitsDecoy(DataModule):
    """1,297 train and 500 test digits, 24 x 24, each with a 4 x 4 square in a random corner.

    The square's grey is 255 - 25 x label in train and in `test_train_like`, 255 - 25 x a random digit in
    `test`; `test_clean` has none. The three test parts show the same digits. `val_random` shows the digits of
    `val` with squares as in `test`: to choose settings on, because `val` has the squares of train.

    Every draw is from numpy's frozen RandomState, so the data are the same on every machine.
    """

    part_names = ("train", "test", "test_clean", "test_train_like", "val_random")
    options: ClassVar[dict] = {"decoys": bool, "anywhere": bool}
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

    def __init__(self, *args, decoys: bool = True, anywhere: bool = False, **kwargs):
        """The variants.

        Args:
            decoys: False leaves the squares out of train as well (the upper bound).
            anywhere: the digit fills any 3 x 3 cells of the 6 x 6 grid, and the square is any cell without
                ink. So the edit of one image is wrong for another.
        """
        self.decoys, self.anywhere = decoys, anywhere
        super().__init__(*args, **kwargs)
        if self.val is None:
            self.part_names = self.part_names[:-1]

    def find(self, path: object) -> None:
        """Nothing to find: the digits come with scikit-learn, and a path is not used."""

    def read(self, name: str) -> Part:
        digits = load_digits()
        n, random = len(digits.target), np.random.RandomState(0)
        order = random.permutation(n)
        corner, digit = (random.randint(k, size=n, dtype=np.int64) for k in (4, 10))
        if self.anywhere:
            place = SQUARE * random.randint((SIZE - SMALL_DIGIT) // SQUARE + 1, size=(n, 2))
            ink = _placed(_enlarged(digits.images, SMALL_DIGIT), place)  # [n, SIZE, SIZE] in 0..1
            square = SQUARE * _cells_without_ink(ink, random.random_sample((n, GRID**2)))
        else:
            ink = _placed(_enlarged(digits.images, DIGIT), np.full((n, 2), (SIZE - DIGIT) // 2))
            square = (SIZE - SQUARE) * np.stack([corner // 2, corner % 2], 1)
        order = order[np.argsort(digits.target[order], kind="stable")]  # shuffled within each class
        test = np.zeros(n, dtype=bool)
        test[order[np.arange(N_TEST) * n // N_TEST]] = True  # evenly spaced: stratified, exactly N_TEST
        chosen = np.flatnonzero(test if name.startswith("test") else ~test)
        numbers = np.arange(len(chosen))
        if name == "val_random":
            numbers = np.array([int(image_id.removeprefix("train/")) for image_id in self.val.ids])
            chosen = chosen[numbers]

        labels = digits.target[chosen].astype(np.int64)
        images = np.round(ink[chosen] * 255).astype(np.uint8)
        if name != "test_clean" and (self.decoys or name != "train"):
            shown = digit[chosen] if name in ("test", "val_random") else labels
            _add_squares(images, square[chosen], 255 - 25 * shown)
        return Part(
            ids=[f"{name}/{i}" for i in numbers],
            labels=labels,
            classes=[str(k) for k in range(10)],
            images=torch.from_numpy(images)[:, None].repeat(1, 3, 1, 1),  # [n, 3, SIZE, SIZE]
            masks=[partial(np.copy, image) for image in ink[chosen]],
        )


def _enlarged(digits: np.ndarray, side: int) -> np.ndarray:
    """Digits [n, 8, 8] of values 0..16 to float32 [n, side, side] in 0..1, each pixel its area's mean."""
    large = np.kron(digits / 16, np.ones((1, side // 4, side // 4)))  # twice the side
    return large.reshape(len(digits), side, 2, side, 2).mean((2, 4)).astype(np.float32)


def _placed(digits: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Empty images [n, SIZE, SIZE] with the digits [n, h, h] at these rows and columns [n, 2]."""
    images, side = np.zeros((len(digits), SIZE, SIZE), dtype=digits.dtype), digits.shape[-1]
    for image, digit, (top, left) in zip(images, digits, place, strict=True):
        image[top : top + side, left : left + side] = digit
    return images


def _cells_without_ink(ink: np.ndarray, random: np.ndarray) -> np.ndarray:
    """Row and column of a cell without any ink for each image, [n, 2]; `random` in 0..1 [n, GRID ** 2]."""
    cells = ink.reshape(-1, GRID, SQUARE, GRID, SQUARE).max((2, 4)).reshape(len(ink), -1)
    return np.stack(np.divmod(np.where(cells > 0, -1, random).argmax(1), GRID), 1)


def _add_squares(images: np.ndarray, place: np.ndarray, grey: np.ndarray) -> None:
    """Draw the squares with these greys [n] at these rows and columns [n, 2]."""
    for image, (top, left), value in zip(images, place, grey, strict=True):
        image[top : top + SQUARE, left : left + SQUARE] = value


def ink_grid(part: Part, grid: tuple[int, int] = (6, 6)) -> np.ndarray:
    """Which cells of a patch grid hold ink of the digit: bool [n, gh, gw].

    A cell counts as ink when its strongest pixel has at least half of full ink (8 of the digits' 0..16).
    """
    ink = torch.from_numpy(np.stack([part.mask(i) for i in range(len(part))]))  # [n, SIZE, SIZE]
    return (adaptive_max_pool2d(ink[:, None], grid)[:, 0] >= INK).numpy()
