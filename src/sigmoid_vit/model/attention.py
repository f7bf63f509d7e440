"""Where an edit takes effect: the softmax attention of timm's own code, its logits read and edited.

Query-key logits -> sigmoid -> human edit -> logit -> softmax (Matsumoto et al., MIRU2024). Since
logit(sigmoid(x)) = x, only edited logits change: each becomes logit(value), all others are left alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from sigmoid_vit.errors import UserError
from sigmoid_vit.model.edit import LayerEdit

Rows = slice | Tensor  # which query rows, by position among the N tokens
# cuDNN's attention has wrong results with a float mask (pytorch#191612), so edits never use it.
MASKED_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
SOFTMAX = (torch.softmax, F.softmax, Tensor.softmax)


@dataclass
class AttentionRequest:
    """What is asked of the attention of one layer beyond timm's."""

    edit: LayerEdit | None = None
    record: Rows | None = None  # query rows whose logits are wanted
    found: list[Tensor] = field(default_factory=list)  # them, [B, H, Q, N], before the edit


class RequestedAttention(TorchFunctionMode):
    """While it is entered, the attention that timm's code computes serves a request.

    It takes the place of `scaled_dot_product_attention`, or of the softmax where a module computes attention
    by hand, so that projections, norms, rotary and relative positions stay timm's own, whatever the model.
    """

    def __init__(self, request: AttentionRequest) -> None:
        super().__init__()
        self.request = request

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return attend(self.request, *args, **kwargs)
        if func in SOFTMAX:
            args = (_edited_logits(self.request, args[0]), *args[1:])
        return func(*args, **kwargs)


def attend(
    request: AttentionRequest,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Fused attention [B, H, Q, d] that serves a request; an edit makes no N x N tensor of its own."""
    if is_causal:
        raise UserError("attention that is causal can be neither read nor edited")
    fused, edit = F.scaled_dot_product_attention, request.edit
    if request.record is not None:
        request.found.append(attention_logits(q, k, scale, attn_mask, request.record))
    if edit is None:
        return fused(q, k, v, attn_mask, dropout_p, scale=scale)
    edited, logit = edit.over(k.shape[-2])  # [B, 1 or H, N]
    if edit.queries == "all":  # q.0 + logit(value) = logit(value) for every row
        k = k.masked_fill(edited.unsqueeze(-1), 0)
        bias = logit.to(q.dtype).unsqueeze(-2)
        if attn_mask is not None:  # the edit replaces it
            bias = torch.where(edited.unsqueeze(-2), bias, bias + _additive(attn_mask, q.dtype))
        with sdpa_kernel(MASKED_BACKENDS):
            return fused(q, k, v, bias, dropout_p, scale=scale)
    out = fused(q, k, v, attn_mask, dropout_p, scale=scale)
    row = _replaced(attention_logits(q, k, scale, attn_mask, slice(0, 1)), edited, logit)
    row = F.dropout(row.softmax(dim=-1), dropout_p).to(v.dtype) @ v  # of the class token, [B, H, 1, d]
    # an image or head without edited cells keeps the fused result to the bit
    row = torch.where(edited.any(-1)[..., None, None], row.to(out.dtype), out[:, :, :1])
    return torch.cat((row, out[:, :, 1:]), dim=2)


def attention_logits(
    q: Tensor, k: Tensor, scale: float | None = None, bias: Tensor | None = None, rows: Rows = slice(None)
) -> Tensor:
    """q.k / sqrt(head_dim) + bias in float32 (float64 for float64), for some rows of q: [B, H, Q, N]."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    with torch.autocast(q.device.type, enabled=False):
        logits = (q[:, :, rows].to(dtype) * scale) @ k.to(dtype).transpose(-2, -1)
        if bias is None:
            return logits
        return logits + _additive(bias, dtype).expand(*bias.shape[:-2], q.shape[-2], -1)[..., rows, :]


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask of `scaled_dot_product_attention` as what it adds to the logits."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -torch.inf)
    return mask.to(dtype)


def _replaced(logits: Tensor, edited: Tensor, logit: Tensor) -> Tensor:
    """Attention logits [B, H, Q, N] with those of the edit, [B, 1 or H, N], in the place of their own."""
    logit = logit.to(logits.dtype).unsqueeze(-2)
    return torch.where(edited.unsqueeze(-2), logit, logits + logit)


def _edited_logits(request: AttentionRequest, own: Tensor) -> Tensor:
    """The same request where a module computes its N x N logits itself, in front of its softmax."""
    logits, edit = own.to(torch.promote_types(own.dtype, torch.float32)), request.edit
    if request.record is not None:
        request.found.append(logits[:, :, request.record])
    if edit is None:
        return own
    changed = _replaced(logits, *edit.over(logits.shape[-1]))
    return changed if edit.queries == "all" else torch.cat((changed[:, :, :1], logits[:, :, 1:]), dim=2)


class SigmoidAttention(Attention):
    """timm's `Attention`, which can also compute the first query rows alone."""

    def forward_rows(self, x: Tensor, rows: int, request: AttentionRequest) -> Tensor:
        """Of tokens x [B, N, C], what the first `rows` of them become: [B, rows, C]."""
        q, recorded, k, v = self._project(x, rows, request.record)
        if request.record is not None:
            request.found.append(attention_logits(recorded, k))
        dropout_p = self.attn_drop.p if self.training else 0.0
        out = attend(AttentionRequest(request.edit), q, k, v, dropout_p=dropout_p)
        out = self.norm(out.transpose(1, 2).flatten(2))
        if self.gate is not None:
            out = out * self.gate(x[:, :rows]).sigmoid()
        return self.proj_drop(self.proj(out))

    def _project(self, x: Tensor, rows: int, record: Rows | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries [B, H, Q, d] of the first rows and of those in `record`; keys and values [B, H, N, d]."""
        record = slice(0) if record is None else record
        if type(self.qkv) is not nn.Linear:  # its forward pass is not that of its weight
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            q, recorded = q[:, :rows], q[:, record]
        else:
            split, bias = [self.attn_dim, 2 * self.attn_dim], self.qkv.bias
            w_q, w_kv = self.qkv.weight.split(split)
            b_q, b_kv = (None, None) if bias is None else bias.split(split)
            q, recorded = (F.linear(x[:, some], w_q, b_q) for some in (slice(rows), record))
            k, v = F.linear(x, w_kv, b_kv).chunk(2, dim=-1)
        q, recorded, k, v = (
            t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, recorded, k, v)
        )
        return self.q_norm(q), self.q_norm(recorded), self.k_norm(k), v
