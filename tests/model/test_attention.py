"""The attention layer alone, with and without an edit."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmoid_vit import AttentionEdit, SigmoidAttention
from sigmoid_vit.model.attention import AttentionRequest, RequestedAttention


@settings(max_examples=40, deadline=None)
@given(
    value=st.floats(0, 1),
    share=st.floats(0, 1),
    scale=st.sampled_from([0.0, 1.0, 60.0, 5e3]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    queries=st.sampled_from(["cls", "all"]),
    autocast=st.booleans(),
    seed=st.integers(0, 5),
)
def test_always_finite(value, share, scale, dtype, queries, autocast, seed):
    """Every value, dtype and logit (up to +-1e4 and beyond): outputs, rows and gradients are finite."""
    torch.manual_seed(seed)
    attn = SigmoidAttention(16, num_heads=2, qkv_bias=True)
    with torch.no_grad():
        attn.qkv.weight[:32].normal_().mul_(scale**0.5)
    attn = attn if autocast else attn.to(dtype)
    x = torch.randn(1, 10, 16, dtype=torch.float32 if autocast else dtype, requires_grad=True)
    edit = AttentionEdit(torch.full((1, 3, 3), value), torch.rand(1, 3, 3) < share, queries=queries)
    request = AttentionRequest(edit.over_patches(1, (3, 3), 2, x.device), record=slice(None))
    low = torch.autocast("cpu", dtype if dtype != torch.float32 else torch.bfloat16, enabled=autocast)
    with low, RequestedAttention(request):
        out = attn(x)
    logits = request.found[0]
    out.float().square().mean().backward()
    if scale == 5e3 and dtype == torch.float32:
        assert logits.abs().max() > 1e4
    assert logits.dtype == torch.float32
    for t in (out, logits, x.grad, attn.qkv.weight.grad, attn.proj.weight.grad):
        assert torch.isfinite(t).all()
