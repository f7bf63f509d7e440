"""The attention of a network, read out as maps on the patch grid: the one place that does so.

Sigmoid attention is the sigmoid of each attention logit, softmax attention the share of each token in its
row, rollout the flow of the input through all layers. They are read for a query, the class token
or one patch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sigmoid_vit.errors import UserError
from sigmoid_vit.model.edit import AttentionEdit
from sigmoid_vit.model.vit import EditableViT


class AttentionMaps(NamedTuple):
    """The attention of the class token over the patches of B images, as a mean over the heads.

    Where there is no class token, the mean over the rows of the patches.
    """

    sigmoid: Tensor  # sigmoid attention of every layer, 0..1 [B, layers, gh, gw]
    softmax: Tensor  # attention of every layer: shares of all N tokens, prefix tokens left out; same shape
    rollout: Tensor  # attention rollout over all layers, shares as above, [B, gh, gw]


@torch.no_grad()
def attention_maps(model: EditableViT, images: Tensor) -> tuple[Tensor, AttentionMaps]:
    """Class logits [B, K] and all maps of the attention for images [B, 3, H, W]."""
    class_logits, logits = model.forward_with_attention(images, layers="all", queries="all")
    rows, grid = query_rows(model), model.grid(images.shape[-2:])
    layers = [layer[:, :, rows] for layer in logits.values()]
    sigmoid = [sigmoid_map(layer, grid).mean(1) for layer in layers]
    softmax = [softmax_map(layer, grid) for layer in layers]
    flow = rollout([layer.softmax(-1).mean(1) for layer in logits.values()], rows)
    return class_logits, AttentionMaps(torch.stack(sigmoid, 1), torch.stack(softmax, 1), on_grid(flow, grid))


@torch.no_grad()
def sigmoid_attention(
    model: EditableViT,
    images: Tensor,
    layer: str | int = "last",
    query: int | None = None,
    edit: AttentionEdit | None = None,
) -> tuple[Tensor, Tensor]:
    """Class logits [B, K] and sigmoid attention over the patches in one layer, 0..1 [B, H, gh, gw].

    Args:
        images: [B, 3, H, W].
        query: the patch whose attention it is, by its number; None for the class token, or without one for
            the mean over all patches.
        edit: in force during the pass; the attention is the network's own, before the edit.
    """
    class_logits, logits = _one_layer(model, images, layer, query, edit)
    return class_logits, sigmoid_map(logits, model.grid(images.shape[-2:]))


@torch.no_grad()
def softmax_attention(model: EditableViT, images: Tensor, layer: str | int = "last") -> tuple[Tensor, Tensor]:
    """Class logits [B, K] and softmax attention of the class token in one layer, head mean [B, gh, gw]."""
    class_logits, logits = _one_layer(model, images, layer)
    return class_logits, softmax_map(logits, model.grid(images.shape[-2:]))


def query_rows(model: EditableViT, query: int | None = None) -> slice:
    """The rows among the N tokens that are read for a query: a patch by its number, or None.

    None stands for the class token, and where there is none, for all patches, whose mean is then taken.
    """
    if query is None:
        return slice(0, 1) if model.has_class_token else slice(model.num_prefix_tokens, None)
    row = model.num_prefix_tokens + query
    return slice(row, row + 1)


def query_name(model: EditableViT) -> str:
    """The query that None stands for, in words."""
    return "class token" if model.has_class_token else "mean over all patches"


def sigmoid_map(logits: Tensor, grid: tuple[int, int]) -> Tensor:
    """Attention logits [B, H, Q, N] to sigmoid attention, the mean over the rows: [B, H, gh, gw]."""
    return on_grid(logits.sigmoid().mean(2), grid)


def softmax_map(logits: Tensor, grid: tuple[int, int]) -> Tensor:
    """Attention logits [B, H, Q, N] to softmax attention, the mean over heads and rows: [B, gh, gw]."""
    return on_grid(logits.softmax(-1).mean((1, 2)), grid)


def rollout(attention: Sequence[Tensor], rows: slice) -> Tensor:
    """Attention rollout (Abnar and Zuidema, 2020): how much of each input token reaches the `rows`, [B, N].

    The product of A/2 + I/2 over the layers, I standing for the skip connection; the mean of its `rows`. The
    rows of each A sum to 1, so those of the product do, and there is nothing to normalise.

    Args:
        attention: softmax attention of each layer, first layer first, mean over heads, [B, N, N].
    """
    identity = torch.eye(attention[0].shape[-1], device=attention[0].device, dtype=attention[0].dtype)
    flow = identity[rows].mean(0, keepdim=True)  # [1, N]; a row times each layer instead of N x N x N
    for layer in reversed(attention):
        flow = (flow + flow @ layer) / 2  # [B, 1, N]
    return flow.squeeze(1)


def on_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Values of the N tokens [..., N] to those of the patches, which come last among them: [..., gh, gw]."""
    return tokens[..., -grid[0] * grid[1] :].unflatten(-1, grid)


def _one_layer(
    model: EditableViT,
    images: Tensor,
    layer: str | int,
    query: int | None = None,
    edit: AttentionEdit | None = None,
) -> tuple[Tensor, Tensor]:
    """Class logits [B, K], and a layer's attention logits [B, H, Q, N] in the rows read for a query."""
    gh, gw = model.grid(images.shape[-2:])
    if query is not None and not 0 <= query < gh * gw:
        raise UserError(f"there is no patch {query}; patches are numbered 0 to {gh * gw - 1}")
    rows = torch.arange(model.num_prefix_tokens + gh * gw)[query_rows(model, query)]
    class_logits, logits = model.forward_with_attention(images, edit, layer, rows)
    return class_logits, next(iter(logits.values()))
