"""The network's answers to all images of a part."""

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather
from torch import Tensor

from sigmoid_vit.data import BatchTransform, Prepared
from sigmoid_vit.model import SigmoidViT


@torch.no_grad()
def predict(
    model: SigmoidViT, part: Prepared, transform: BatchTransform, batch_size: int, accelerator: Accelerator
) -> tuple[Tensor, Tensor]:
    """Class logits float32 [n, K] and labels int64 [n] of all images, in order, on every process's CPU."""
    training = model.training
    model.eval()
    rank, world, n = accelerator.process_index, accelerator.num_processes, len(part)
    share = -(-n // world)  # images per process; the last ones are repeated to make it even
    mine = np.arange(rank * share, (rank + 1) * share).clip(max=n - 1)
    parts = []
    for images, _, index in part.batches(np.split(mine, range(batch_size, share, batch_size))):
        with accelerator.autocast():
            parts.append(model(transform(images.to(accelerator.device), index)).float())
    model.train(training)
    return gather(torch.cat(parts))[:n].cpu(), torch.from_numpy(part.part.labels)
