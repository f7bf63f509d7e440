"""Images of two parts that look alike: photographs of one thing, or copies, make a held-out part too easy."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sigmoid_vit.data.parts import Prepared

SIDE = 16  # pixels of a thumbnail
ALIKE = 0.98  # correlation of two thumbnails from which their images look alike
AT_A_TIME = 1024  # thumbnails
WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue in grey (ITU-R BT.601)


def look_alikes(part: Prepared, train: Prepared) -> list[tuple[str, str, float]]:
    """The images of a part that look like one of `train`: their ids and the correlation, the highest first.

    Compared are grey thumbnails of SIDE x SIDE pixels without their mean and contrast, so another exposure of
    the same thing is found and a turned or moved one is not. Each image is listed once, with its nearest. A
    flat image is like none. Both parts must be in memory.
    """
    others, found = thumbnails(train.images), []
    for first, own in enumerate(thumbnails(part.images).split(AT_A_TIME)):
        best = [(own @ some.T).max(1) for some in others.split(AT_A_TIME)]
        values = torch.stack([b.values for b in best], 1)
        block = values.argmax(1)
        at = torch.stack([b.indices for b in best], 1).gather(1, block[:, None]).squeeze(1)
        value = values.amax(1)
        for i in torch.nonzero(value >= ALIKE).flatten().tolist():
            id_in_train = train.part.ids[int(block[i]) * AT_A_TIME + int(at[i])]
            found.append((part.part.ids[first * AT_A_TIME + i], id_in_train, round(value[i].item(), 3)))
    return sorted(found, key=lambda pair: -pair[2])


def thumbnails(images: Tensor) -> Tensor:
    """Images uint8 [n, 3, h, w] as grey thumbnails of mean 0 and norm 1, float32 [n, SIDE x SIDE]."""
    small = []
    for some in images.split(AT_A_TIME):
        grey = torch.einsum("nchw,c->nhw", some.float().cpu(), torch.tensor(WEIGHTS))
        small.append(F.interpolate(grey[:, None], size=(SIDE, SIDE), mode="area").flatten(1))
    small = torch.cat(small)
    centred = small - small.mean(1, keepdim=True)
    flat = centred.std(1, keepdim=True) < 1  # of 255 levels
    return torch.where(flat, 0, F.normalize(centred, dim=1))
