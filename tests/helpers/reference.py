"""The method written out plainly, N x N tensors and all: what every fast path must equal."""

from contextlib import ExitStack
from itertools import product
from math import prod
from unittest.mock import patch

import timm
import torch

from sigmoid_vit import AttentionEdit, create_model

TINY = dict(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=2)  # a 4 x 4 grid


def tiny_model(name="vit_tiny_patch16_224", seed=0, **kwargs):
    """A small network with weights large enough for its attention to be far from uniform."""
    torch.manual_seed(seed)
    model = create_model(name, num_classes=5, **{**TINY, **kwargs}).eval()
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.weight.mul_(15)
    return model


def stock(model, name="vit_tiny_patch16_224", **kwargs):
    """timm's own network with the same weights."""
    twin = timm.create_model(name, num_classes=model.num_classes, **kwargs)
    assert type(twin).__module__.startswith("timm.")
    twin.load_state_dict(model.state_dict())
    return twin.train(model.training)


def materialised(model, images, edit=None):
    """Class logits, and per layer attention logits before the edit and softmax rows, both [B, H, N, N].

    timm's own forward pass with its attention computed by hand: each softmax is met, in the order of the
    layers, with the logits of the edit put in place one by one. A mean over patches is a weighted one, and so
    is what a bias adds to the shares of all keys after the softmax.
    """
    twin = next(c for c in type(model).__mro__ if c.__module__.startswith("timm."))
    depth, patches = model.depth, prod(model.grid(images.shape[-2:]))
    logits, rows, everywhere = {}, {}, False
    layers = list(range(depth))
    if edit is not None:
        spec = edit.layers
        layers = layers if spec == "all" else [depth - 1] if spec == "last" else [i % depth for i in spec]
        everywhere = len(layers) == depth and (edit.heads, edit.queries, edit.value.ndim) == (None, "all", 3)

    def softmax(a, dim=-1):
        i, before = len(logits), a
        if edit is not None and (i in layers or (i >= depth and everywhere)):
            a = a.clone()
            for b in range(a.shape[0]):
                for h in range(a.shape[1]):
                    if edit.heads is not None and h not in edit.heads:
                        continue
                    for j, logit in edited_logits(edit, b, h, a.dtype):
                        row = slice(0, 1) if edit.queries == "cls" else slice(None)
                        if edit.queries == "cls" and a.shape[-1] == patches:
                            continue  # the class token takes no part
                        a[b, h, row, a.shape[-1] - patches + j] = logit
        logits[i], rows[i] = among_all(before, -torch.inf), among_all(torch.softmax(a, dim), 0)
        return torch.softmax(a, dim)

    def among_all(a, absent):
        """Rows of all N x N tokens; one that takes no part attends to itself alone."""
        n, (q, k) = patches + model.num_prefix_tokens, a.shape[-2:]
        whole = (
            torch.full((n, n), absent, dtype=a.dtype)
            .fill_diagonal_(1 if absent == 0 else 0)
            .repeat(*a.shape[:2], 1, 1)
        )
        first = n - q if q == patches else 0
        whole[:, :, first : first + q, n - k :] = a
        return whole

    def mixed(mix, i):
        """The heads' shares [B, P, P, H] mixed; a key has the bias in proportion to its odds."""

        def forward(shares):
            odds = torch.ones(shares.shape[0], patches, mix.out_features, dtype=shares.dtype)
            for b, h in product(range(shares.shape[0]), range(mix.out_features)):
                if edit is None or i not in layers or edit.queries == "cls":
                    continue
                if edit.heads is None or h in edit.heads:
                    for j, logit in edited_logits(edit, b, h, shares.dtype):
                        odds[b, j, h] = logit.exp()
            return shares @ mix.weight.T + mix.bias * (odds / odds.mean(1, keepdim=True))[:, None]

        return forward

    by_hand = [module for module in model.modules() if getattr(module, "fused_attn", False)]
    with ExitStack() as changes:
        for module in by_hand:
            changes.enter_context(patch.object(module, "fused_attn", False))
        for i, block in enumerate(model.attention_blocks):
            if mix := getattr(getattr(block, "attn", None), "proj_w", None):
                changes.enter_context(patch.object(mix, "forward", mixed(mix, i)))
        changes.enter_context(patch.object(torch.Tensor, "softmax", softmax))
        x = twin.forward_features(model, images)
        if everywhere and model.global_pool == "avg":
            x = x.flatten(1, -2).clone()
            for b in range(len(x)):
                weights = torch.ones(patches, dtype=x.dtype)
                for j, logit in edited_logits(edit, b, 0, x.dtype):
                    weights[j] = logit.exp()
                x[b, -patches:] = (weights[:, None] * x[b, -patches:]).sum(0) / weights.sum()
        class_logits = twin.forward_head(model, x)
    return class_logits, {i: logits[i] for i in range(depth)}, {i: rows[i] for i in range(depth)}


def edited_logits(edit, b, h, dtype):
    """Of image b and head h: the edited patches, with the logit that each gets."""
    value, edited = edit.value[b], edit.edited[b]
    if value.ndim == 3:
        value, edited = value[h], edited[h]
    for j in edited.flatten().nonzero().flatten().tolist():
        p = value.flatten()[j].to(dtype).clamp(1e-6, 1 - 1e-6)
        yield j, torch.log(p) - torch.log1p(-p)


def random_edit(batch=2, grid=(4, 4), per_head=None, seed=0, share=0.4, **scope):
    """Random values on about `share` of the cells; the values include exact 0 and 1."""
    g = torch.Generator().manual_seed(seed)
    shape = (batch, *grid) if per_head is None else (batch, per_head, *grid)
    value = (torch.rand(shape, generator=g) * 1.4 - 0.2).clamp(0, 1)
    return AttentionEdit(value, torch.rand(shape, generator=g) < share, **scope)
