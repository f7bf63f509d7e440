"""CaiT: blocks of patches alone whose heads talk to each other, then blocks of the class token alone."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import checkpoint
from timm.models.cait import Cait
from torch import Tensor, nn

from sigmoid_vit.model.attention import AttentionRequest, RequestedAttention, Rows
from sigmoid_vit.model.edit import LayerEdit
from sigmoid_vit.model.vit import Beside, PlainForward

ALL = slice(None)


class SigmoidCait(PlainForward, Cait):
    """timm's `Cait`. Its layers are `blocks`, between the patches, and then `blocks_token_only`.

    The class token takes no part in the former, nor do the patches as queries in the latter: such a row of
    the attention logits is 0 for the token itself and -inf for all others, which leaves it as it is.
    """

    has_class_token = True

    @property
    def attention_blocks(self) -> Sequence[nn.Module]:
        return [*self.blocks, *self.blocks_token_only]

    def embed(self, images: Tensor) -> tuple[Tensor, Beside]:
        x = self.pos_drop(self.patch_embed(images) + self.pos_embed)
        return torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1), [{}] * self.depth

    def forward_block(
        self, i: int, x: Tensor, beside: Beside, edit: LayerEdit | None = None, record: Rows | None = None
    ) -> tuple[Tensor, Tensor | None]:
        checkpointing = self.grad_checkpointing and torch.is_grad_enabled()
        run = _run_patches if i < len(self.blocks) else _run_class_token
        run = partial(checkpoint, run) if checkpointing else run
        return run(self.attention_blocks[i], x, edit, record)


class _TalkingHeads(RequestedAttention):
    """Attention whose shares are mixed among the heads after the softmax: W p + b for each key.

    The b of a key is attention with logits of 0, so that an edited patch has it by its odds, as in a mean.
    """

    def __init__(self, request: AttentionRequest, mix: nn.Linear) -> None:
        super().__init__(request)
        self.mix = mix

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.linear or args[1] is not self.mix.weight or self.request.edit is None:
            return super().__torch_function__(func, types, args, kwargs)
        shares, weight, bias = args  # [B, Q, N, H]
        odds = self.request.edit.over(shares.shape[2])[1].exp().transpose(1, 2).unsqueeze(1)
        return func(shares, weight) + bias * (odds / odds.mean(2, keepdim=True)).to(shares.dtype)


def _run_patches(
    block: nn.Module, x: Tensor, edit: LayerEdit | None, record: Rows | None
) -> tuple[Tensor, Tensor | None]:
    """A block between the patches among the tokens x [B, N, C]; the logits of the rows in `record`."""
    if edit is not None and edit.queries == "cls":
        edit = None  # there is no row of the class token
    if edit is None and record is None:
        return torch.cat((x[:, :1], block(x[:, 1:])), dim=1), None
    request = AttentionRequest(edit, None if record is None else ALL)
    with _TalkingHeads(request, block.attn.proj_w):
        patches = block(x[:, 1:])
    found = _among_all(request.found, slice(1, None), slice(1, None), x.shape[1], record)
    return torch.cat((x[:, :1], patches), dim=1), found


def _run_class_token(
    block: nn.Module, x: Tensor, edit: LayerEdit | None, record: Rows | None
) -> tuple[Tensor, Tensor | None]:
    """A block of the class token, which attends to all N tokens x [B, N, C]; the same logits."""
    request = AttentionRequest(edit, None if record is None else ALL)
    with RequestedAttention(request):
        token = block(x[:, 1:], x[:, :1])
    return torch.cat((token, x[:, 1:]), dim=1), _among_all(
        request.found, slice(0, 1), ALL, x.shape[1], record
    )


def _among_all(found: list[Tensor], rows: slice, keys: slice, n: int, record: Rows | None) -> Tensor | None:
    """Logits that a block computed, as rows of all N x N where every other token attends to itself alone."""
    if not found:
        return None
    (logits,) = found
    itself = torch.full((n, n), -torch.inf, device=logits.device, dtype=logits.dtype).fill_diagonal_(0)
    whole = itself.repeat(*logits.shape[:2], 1, 1)
    whole[:, :, rows, keys] = logits
    return whole[:, :, record]
