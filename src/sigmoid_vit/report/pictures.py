"""Pictures inside a page: images as data URIs, and maps over them as coloured, see-through cells."""

import base64
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIDE = 224  # of an image on the page, in pixels, at most
SMALL = 96  # images below are enlarged, pixel by pixel
RED, BLUE = (178, 24, 43), (33, 102, 172)  # for and against the prediction
BLACK, YELLOW = (0, 0, 0), (253, 231, 37)  # erased, and attended
OPAQUE = 0.8  # of the strongest cell


def image_uri(image: Tensor) -> str:
    """An image uint8 [3, h, w] (or a mean of images, float in 0..255), at most SIDE pixels a side."""
    picture = Image.fromarray(image.round().to(torch.uint8).permute(1, 2, 0).numpy())
    if max(picture.size) < SMALL:
        times = -(-SMALL // max(picture.size))
        size = [times * side for side in picture.size]
        return _uri(picture.resize(size, Image.Resampling.NEAREST), "PNG")
    picture.thumbnail((SIDE, SIDE))
    return _uri(picture, "JPEG", quality=85)


def decision_uri(effect: Tensor) -> str:
    """A decision map [gh, gw]: red cells speak for the prediction, blue ones against it."""
    share = (effect / effect.abs().max().clamp(min=1e-9)).numpy()
    return _cells(np.where(share[..., None] > 0, RED, BLUE), OPAQUE * abs(share))


def edit_uri(value: Tensor, edited: Tensor) -> str:
    """An edit [gh, gw]: black cells are erased, yellow ones attended, clear ones left to the network."""
    value, edited = value.numpy(), edited.numpy()
    strength = edited * np.maximum(abs(2 * value - 1), 0.2)
    return _cells(np.where(value[..., None] < 0.5, BLACK, YELLOW), OPAQUE * strength)


def _cells(colour: np.ndarray, opacity: np.ndarray) -> str:
    """A pixel for each cell; the page enlarges it."""
    rgba = np.concatenate([colour, np.round(255 * opacity[..., None])], axis=2)
    return _uri(Image.fromarray(rgba.astype(np.uint8), "RGBA"), "PNG")


def _uri(picture: Image.Image, kind: str, **how) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
