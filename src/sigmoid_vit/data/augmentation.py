"""From uint8 batches to the network's input: flip, crop, resize and normalise in batch, on the device.

Each image has its own flip and crop. Cropping and resizing are linear in the image and separable, so a batch
of them is two batched matrix products with the weights that Pillow and torchvision use (antialiased).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from sigmoid_vit.errors import UserError

RATIO = 4 / 3  # a crop's width : height, after resizing to img_size, is within 1/RATIO..RATIO
INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass
class FlipCropResize:
    """Flip, crop and resize each image of a batch by its own parameters, and soft maps along with it.

    flip: bool [B], or None for no flips. box: float32 [B, 4], the crops as (top, left, height, width) in
    shares of the flipped image, or None for whole images.
    """

    size: tuple[int, int]
    interpolation: str
    flip: torch.Tensor | None = None
    box: torch.Tensor | None = None

    def move_images(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, C, h, w] to float32 [B, C, *size]."""
        return self._move(images, self.size, self.interpolation)

    def move_maps(self, maps: torch.Tensor) -> torch.Tensor:
        """Soft maps [B, gh, gw] in 0..1, resampled bilinearly on their own grid."""
        return self._move(maps[:, None], maps.shape[-2:], "bilinear")[:, 0].clamp(0, 1)

    def _move(self, x: torch.Tensor, size: tuple[int, int], interpolation: str) -> torch.Tensor:
        if self.flip is not None:
            x = torch.where(self.flip[:, None, None, None], x.flip(-1), x)
        if self.box is not None:
            return crop_resize(x.float(), self.box, size, interpolation)
        return F.resize(x.float(), list(size), InterpolationMode(interpolation), antialias=True)


class BatchTransform:
    """Images uint8 [B, 3, h, w] on any device to the network's input, float32 [B, 3, H, W].

    With `train`, an image is flipped with probability `hflip` and cropped to between `crop_scale` and all of
    its area; 1.0 means no crop. The draws are functions of (seed, epoch, index) alone, index < n being the
    image's position in its part. Without `train` the whole image is resized, as it is with hflip=0 and
    crop_scale=1. mean and std are in units of 0..1 and are, like interpolation, the model's own.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        interpolation: str = "bicubic",
        train: bool = False,
        hflip: float = 0.5,
        crop_scale: float = 0.7,
        seed: int = 0,
        n: int = 0,
    ):
        if interpolation not in INTERPOLATIONS or not 0 <= hflip <= 1 or not 0 < crop_scale <= 1:
            raise UserError(
                f"interpolation={interpolation}, hflip={hflip}, crop_scale={crop_scale}: valid are "
                f"{' or '.join(INTERPOLATIONS)}, 0 to 1, and above 0 to 1"
            )
        self.size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        self.mean, self.std, self.interpolation = list(mean), list(std), interpolation
        self.hflip, self.crop_scale = (hflip, crop_scale) if train else (0.0, 1.0)
        if n < 1 and (self.hflip > 0 or self.crop_scale < 1):
            raise ValueError("a random transform needs n, the number of images in the part")
        self.seed, self.n = seed, n
        self._table: tuple[tuple, torch.Tensor] | None = None

    def __call__(self, images: torch.Tensor, index: torch.Tensor, epoch: int = 0) -> torch.Tensor:
        return self.with_maps(images, index, epoch)[0]

    @torch.no_grad()
    def with_maps(
        self, images: torch.Tensor, index: torch.Tensor, epoch: int, *maps: torch.Tensor
    ) -> list[torch.Tensor]:
        """The input and, moved with it, soft maps [B, gh, gw] in 0..1 on the same device."""
        geometry = self.geometry(index, epoch, images.device)
        with torch.autocast(images.device.type, enabled=False):
            x, maps = geometry.move_images(images), [geometry.move_maps(m) for m in maps]
        x = x.clamp(0, 255).div_(255)  # bicubic overshoots
        return [F.normalize(x, self.mean, self.std, inplace=True), *maps]

    def geometry(self, index: torch.Tensor, epoch: int, device: torch.device) -> FlipCropResize:
        """The flips and crops of the images at these positions in this epoch."""
        flip = box = None
        if self.hflip > 0 or self.crop_scale < 1:
            draws = self._draws(epoch, device)[index.to(device)]  # [B, 5]
            flip = draws[:, 0] < self.hflip if self.hflip > 0 else None
            box = _boxes(draws[:, 1:], self.crop_scale) if self.crop_scale < 1 else None
        return FlipCropResize(self.size, self.interpolation, flip, box)

    def _draws(self, epoch: int, device: torch.device) -> torch.Tensor:
        """Uniform draws in [0, 1) for every image in this epoch: float32 [n, 5]."""
        key = (epoch, device)
        if self._table is None or self._table[0] != key:
            draws = np.random.default_rng([self.seed, epoch, 1]).random((self.n, 5), dtype=np.float32)
            self._table = key, torch.from_numpy(draws).to(device)
        return self._table[1]


def _boxes(draws: torch.Tensor, crop_scale: float) -> torch.Tensor:
    """Uniform draws [B, 4] to crops [B, 4], (top, left, height, width) in shares of the image.

    The area is uniform in crop_scale..1, the logarithm of the ratio uniform in the range whose crops of that
    area fit into the image, and the place uniform in what is left: no draw is ever rejected.
    """
    area, ratio, top, left = draws.unbind(1)
    area = crop_scale + (1 - crop_scale) * area
    limit = (-area.log()).clamp(max=math.log(RATIO))
    ratio = ((2 * ratio - 1) * limit).exp()  # width / height
    height, width = (area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1)
    return torch.stack([top * (1 - height), left * (1 - width), height, width], dim=1)


def crop_resize(
    x: torch.Tensor, box: torch.Tensor, size: tuple[int, int], interpolation: str
) -> torch.Tensor:
    """Crop x [B, C, h, w] to box [B, 4] (top, left, height, width in 0..1) and resize to [B, C, *size].

    Equal to PIL's `resize(size, box=...)` of each float image; at the crop's edge it sees the pixels beyond.
    """
    top, left, height, width = box.unbind(1)
    rows = _weights(top, height, x.shape[-2], size[0], interpolation)  # [B, H, h]
    columns = _weights(left, width, x.shape[-1], size[1], interpolation)  # [B, W, w]
    return torch.einsum("bcHw,bWw->bcHW", torch.einsum("bHh,bchw->bcHw", rows, x), columns)


def _weights(start: torch.Tensor, length: torch.Tensor, n_in: int, n_out: int, interpolation: str):
    """Share of each input pixel in each of n_out that cover start..start+length: [B, n_out, n_in]."""
    step = n_in * length[:, None, None] / n_out  # input pixels per output pixel
    outputs = torch.arange(n_out, device=start.device)[:, None] + 0.5
    inputs = torch.arange(n_in, device=start.device) + 0.5
    distance = (inputs - n_in * start[:, None, None] - outputs * step).abs()
    weights = _kernel(distance / step.clamp(min=1), interpolation)  # wider where the image shrinks
    return weights / weights.sum(-1, keepdim=True)


def _kernel(x: torch.Tensor, interpolation: str) -> torch.Tensor:
    """The interpolation kernel at distance x >= 0 (cubic: Keys, a = -0.5)."""
    if interpolation == "bilinear":
        return (1 - x).clamp(min=0)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
