"""Figures as tests look at them: saved, with every text inside, and what they are drawn from."""

import warnings

import numpy as np
import torch
from PIL import Image

from sigmoid_vit.figures.style import save, style

# the names of a run and of classes
LONG = "CUB_200_2010_HITL_full_propagated_seed3_lambda0.5_of_the_24th_of_July, test_train_like"
NAMES = ["シジュウカラ", "$\\frac{$", "a_very_long_name_of_a_woodpecker_of_the_far_north", "<b>"]


def saved(figure, path):
    """The pixels of the saved figure; a character without a glyph is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, path / "picture")
    assert (path / "picture.pdf").stat().st_size > 1000
    pixels = np.asarray(Image.open(path / "picture.png").convert("RGB"))
    frame = pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]
    assert all((side == 255).all() for side in frame)  # nothing is cut off
    return pixels


def within(figure, *texts):
    """Whether the texts lie inside the figure."""
    with style():
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in texts]
    width, height = figure.bbox.size
    return all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)


def maps(*shape):
    """Values in 0..1, the same in every call."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def images(B):
    """uint8 [B, 3, 8, 8]."""
    return (255 * maps(B, 3, 8, 8)).byte()
