"""How an image file becomes the input of an exported network, told to other programs."""

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from sigmoid_vit.runs.network import Network


def preprocessing(network: Network) -> dict:
    """What preprocessing.json says.

    Returns:
        model and model_args, for `timm.create_model`; size, the height and width that the whole image is
        resized to, without a crop; interpolation, antialias; channels, layout and dtype of the input; mean
        and std, in units of 0..1; classes, in the order of the class logits; white, the value of 16-bit or
        floating-point pixels that becomes 1, by kind (None: the training images had none).
    """
    return {
        "model": network.model.pretrained_cfg["architecture"],
        "model_args": model_args(network),
        "size": list(network.transform.size),
        "crop": "none: the whole image is resized",
        "interpolation": network.transform.interpolation,
        "antialias": True,
        "channels": "RGB",
        "layout": "NCHW",
        "dtype": "float32",
        "mean": network.transform.mean,
        "std": network.transform.std,
        "white": network.run.value_range().as_dict(),
        "classes": network.classes,
    }


def model_args(network: Network) -> dict:
    """The arguments with which `timm.create_model` builds the network."""
    s = network.settings
    return {"num_classes": len(network.classes), "img_size": s.img_size, **s.model_kwargs}


def as_told(image: Image.Image, told: dict) -> Tensor:
    """An upright RGB image as the network's input [1, 3, H, W], by what preprocessing.json says alone."""
    resized = F.resize(image, told["size"], InterpolationMode(told["interpolation"]))
    pixels = F.to_dtype(F.pil_to_tensor(resized), torch.float32, scale=True)
    return F.normalize(pixels, told["mean"], told["std"])[None]
