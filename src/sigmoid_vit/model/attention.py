"""Attention whose logits can be read and edited as sigmoid values: the one place where an edit takes effect.

Query-key logits -> sigmoid -> human edit -> logit -> softmax (Matsumoto et al., MIRU2024). Since
logit(sigmoid(x)) = x, only edited logits change: each becomes logit(value), all others are left alone.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sigmoid_vit.model.edit import LayerEdit

# cuDNN's attention has wrong results with a float mask (pytorch#191612), so edits never use it.
MASKED_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@dataclass
class AttentionRequest:
    """What one pass of one layer is asked for beyond timm's; it travels as the block's `attn_mask`."""

    edit: LayerEdit | None = None
    record: slice | Tensor | None = None  # query rows whose logits are wanted
    head_rows: int | None = None  # attend from only this many first query rows
    logits: Tensor | None = None  # filled in by the layer: [B, H, Q, N], before the edit


class SigmoidAttention(Attention):
    """timm's `Attention` (same arguments, same weights) that also serves an `AttentionRequest`."""

    def forward(
        self, x: Tensor, attn_mask: Tensor | AttentionRequest | None = None, is_causal: bool = False
    ) -> Tensor:
        """Tokens x [B, N, C] to [B, N, C], or to [B, head_rows, C] when the request says so."""
        if not isinstance(attn_mask, AttentionRequest):
            return super().forward(x, attn_mask=attn_mask, is_causal=is_causal)
        request = attn_mask
        q, recorded, k, v = self._project(x, request.head_rows, request.record)
        if request.record is not None:
            request.logits = self.logits(recorded, k)
        out = self._attend(q, k, v, request.edit).transpose(1, 2).flatten(2)  # [B, Q, C]
        out = self.norm(out)
        if self.gate is not None:
            out = out * self.gate(x[:, : out.shape[1]]).sigmoid()
        return self.proj_drop(self.proj(out))

    def logits(self, q: Tensor, k: Tensor) -> Tensor:
        """Attention logits q.k / sqrt(head_dim) in float32 (float64 for float64): [B, H, Q, N]."""
        dtype = torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(q.device.type, enabled=False):
            return (q.to(dtype) * self.scale) @ k.to(dtype).transpose(-2, -1)

    def _project(
        self, x: Tensor, head_rows: int | None, record: slice | Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries [B, H, Q, d] of the first `head_rows` tokens (None: all) and of the rows in `record`; keys
        and values [B, H, N, d]."""
        record = slice(0) if record is None else record
        if head_rows is None or type(self.qkv) is not nn.Linear:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            q, recorded = q[:, :head_rows], q[:, record]
        else:
            split, bias = [self.attn_dim, 2 * self.attn_dim], self.qkv.bias
            w_q, w_kv = self.qkv.weight.split(split)
            b_q, b_kv = (None, None) if bias is None else bias.split(split)
            q, recorded = (F.linear(x[:, rows], w_q, b_q) for rows in (slice(head_rows), record))
            k, v = F.linear(x, w_kv, b_kv).chunk(2, dim=-1)
        q, recorded, k, v = (
            t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, recorded, k, v)
        )
        return self.q_norm(q), self.q_norm(recorded), self.k_norm(k), v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, edit: LayerEdit | None) -> Tensor:
        """Fused attention [B, H, Q, d] under an edit; no N x N tensor is made."""
        dropout_p = self.attn_drop.p if self.training else 0.0
        if edit is None:
            return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p)
        if edit.queries == "all":  # q.0 + logit(value) = logit(value) for every row
            k = k.masked_fill(edit.edited.unsqueeze(-1), 0)
            bias = edit.logit.to(q.dtype).unsqueeze(-2)  # [B, 1 or H, 1, N]
            with sdpa_kernel(MASKED_BACKENDS):
                return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout_p)
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p)
        own = self.logits(q[:, :, :1], k)  # the class token's row, [B, H, 1, N]
        row = torch.where(edit.edited.unsqueeze(-2), edit.logit.to(own.dtype).unsqueeze(-2), own)
        row = self.attn_drop(row.softmax(dim=-1)).to(v.dtype) @ v
        # an image or head without edited cells keeps the fused result to the bit
        row = torch.where(edit.edited.any(-1)[..., None, None], row.to(out.dtype), out[:, :, :1])
        return torch.cat((row, out[:, :, 1:]), dim=2)
