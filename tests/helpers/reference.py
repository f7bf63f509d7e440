"""The method written out plainly, N x N tensors and all: what every fast path must equal."""

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
    """Class logits, and per layer attention logits before the edit and softmax rows, both [B, H, N, N]."""
    twin = model.__class__.__mro__[1]  # timm's own class: the plain forward, every row of every block
    logits, rows = {}, {}
    depth, prefix = len(model.blocks), model.num_prefix_tokens
    layers = range(depth)
    if edit is not None:
        spec = edit.layers
        layers = layers if spec == "all" else [depth - 1] if spec == "last" else [i % depth for i in spec]

    def attend(attn, i, x):
        B, N, _ = x.shape
        q, k, v = (
            t.reshape(B, N, attn.num_heads, attn.head_dim).transpose(1, 2) for t in attn.qkv(x).chunk(3, -1)
        )
        q, k = attn.q_norm(q), attn.k_norm(k)
        logits[i] = a = (
            (q.float() if q.dtype != torch.float64 else q)
            @ k.to(torch.promote_types(k.dtype, torch.float32)).transpose(-2, -1)
            * attn.head_dim**-0.5
        )
        if edit is not None and i in layers:
            a = a.clone()
            for b in range(B):
                for h in range(attn.num_heads):
                    if edit.heads is not None and h not in edit.heads:
                        continue
                    value, edited = edit.value[b], edit.edited[b]
                    if value.ndim == 3:
                        value, edited = value[h], edited[h]
                    for j in edited.flatten().nonzero().flatten().tolist():
                        p = value.flatten()[j].to(a.dtype).clamp(1e-6, 1 - 1e-6)
                        row = slice(0, 1) if edit.queries == "cls" else slice(None)
                        a[b, h, row, prefix + j] = torch.log(p) - torch.log1p(-p)
        rows[i] = a.softmax(-1)
        out = (rows[i].to(v.dtype) @ v).transpose(1, 2).reshape(B, N, -1)
        return attn.proj(attn.norm(out))

    originals = [block.attn.forward for block in model.blocks]
    try:
        for i, block in enumerate(model.blocks):
            block.attn.forward = lambda x, i=i, attn=block.attn, **_: attend(attn, i, x)
        class_logits = model.forward_head(twin.forward_features(model, images))
    finally:
        for block, forward in zip(model.blocks, originals, strict=True):
            del block.attn.forward
            assert block.attn.forward == forward
    return class_logits, logits, rows


def random_edit(batch=2, grid=(4, 4), per_head=None, seed=0, share=0.4, **scope):
    """Random values on about `share` of the cells; the values include exact 0 and 1."""
    g = torch.Generator().manual_seed(seed)
    shape = (batch, *grid) if per_head is None else (batch, per_head, *grid)
    value = (torch.rand(shape, generator=g) * 1.4 - 0.2).clamp(0, 1)
    return AttentionEdit(value, torch.rand(shape, generator=g) < share, **scope)
