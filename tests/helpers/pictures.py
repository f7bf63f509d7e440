"""What every picture must be."""

import numpy as np
from PIL import Image


def not_blank(path):
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return pixels.std() > 5 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
