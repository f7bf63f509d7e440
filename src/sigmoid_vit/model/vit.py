"""A timm Vision Transformer, its weights, arguments and outputs unchanged, whose attention can be edited."""

import copy
from collections.abc import Sequence
from functools import partial

import torch
from timm.layers import Attention
from timm.models import VisionTransformer, checkpoint
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules.module import _has_any_global_hook

from sigmoid_vit.errors import UserError
from sigmoid_vit.model.attention import AttentionRequest, RequestedAttention, Rows, SigmoidAttention
from sigmoid_vit.model.edit import QUERIES, AttentionEdit, LayerEdit, as_indices, resolve_indices

CLASS_ROW = slice(0, 1)  # the class token is the first of the N tokens
Beside = list[dict]  # what each block is given beside the tokens: rotary or relative positions, by keyword


class EditableViT(nn.Module):
    """What every model of `create_model` can do beyond timm's class, which each subclass is mixed with.

    A plain pass is timm's own `forward`. Only a pass that edits or reads the attention goes through the
    blocks here, one by one.
    """

    def forward_with_attention(
        self,
        images: Tensor,
        edit: AttentionEdit | None = None,
        layers: str | int | Sequence[int] = "last",
        queries: str | Sequence[int] | Tensor = "cls",
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Class logits, and the attention logits that the network itself computed, before any edit.

        Args:
            images: [B, 3, H, W].
            edit: the edit in force during the pass, if any.
            layers: "last", "all", or block indices.
            queries: "cls" for the class token's row, "all", or indices of query rows among the N tokens.

        Returns:
            class logits [B, num_classes], and layer -> attention logits float32 [B, H, Q, N], where N counts
            the prefix tokens and the patches; `.sigmoid()` of them is the sigmoid attention.
        """
        wanted = resolve_indices(layers, self.depth, "layer")
        return self._forward_blocks(images, edit, wanted, self._rows(images, queries))

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """The patch grid (gh, gw) of images of a size (H, W), in pixels."""
        return tuple(self.patch_embed.dynamic_feat_size(size))

    @property
    def cell_size(self) -> tuple[int, int]:
        """The pixels (height, width) of one cell of the grid."""
        return tuple(self.patch_embed.patch_size)

    @property
    def attention_blocks(self) -> Sequence[nn.Module]:
        """The blocks in their order; a layer is the attention of one."""
        return self.blocks

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.attention_blocks)

    @property
    def num_heads(self) -> int:
        """The heads of each layer."""
        block = self.attention_blocks[0]
        return getattr(block, "attn", block).num_heads

    def embed(self, images: Tensor) -> tuple[Tensor, Beside]:
        """Images [B, 3, H, W] to the tokens in front of the first block, [B, N, C], and what goes beside."""
        raise NotImplementedError

    def layer_edit(self, images: Tensor, edit: AttentionEdit | None) -> tuple[list[int], LayerEdit | None]:
        """The layers that an edit of these images applies to, and the edit over all patches."""
        if edit is None:
            return [], None
        if not isinstance(edit, AttentionEdit):
            raise UserError(f"edit must be an AttentionEdit(value, edited), not {type(edit).__name__}")
        self._check_class_token(edit.queries)
        if self.training and getattr(getattr(self, "patch_drop", None), "prob", 0) > 0:
            raise UserError("an edit needs every patch; create the model with patch_drop_rate=0")
        layers = resolve_indices(edit.layers, self.depth, "layer")
        layer_edit = edit.over_patches(
            images.shape[0], self.grid(images.shape[-2:]), self.num_heads, images.device
        )
        layer_edit.pooling &= len(layers) == self.depth
        return layers, layer_edit

    def forward_block(
        self, i: int, x: Tensor, beside: Beside, edit: LayerEdit | None = None, record: Rows | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens x [B, N, C] through block i, and its attention logits [B, H, Q, N] of the rows in `record`.

        Of the last block, only the tokens that the head reads may come back.
        """
        checkpointing = self.grad_checkpointing and torch.is_grad_enabled()
        run = partial(checkpoint, run_block) if checkpointing else run_block
        return run(self.attention_blocks[i], x, beside[i], edit, record)

    def classify(self, x: Tensor, edit: LayerEdit | None = None) -> Tensor:
        """Class logits [B, num_classes] of the tokens x [B, N, C] after the last block.

        An edit of all layers, heads and rows holds for a head that pools the patches as for an attention: a
        mean is attention with logits of 0, so that a patch counts in it by its odds, value / (1 - value).
        """
        x = self._normalised(x)
        if edit is None or not edit.pooling:
            return self.forward_head(x)
        if self.global_pool not in ("avg", "token", "map", ""):
            raise UserError(
                f"an edit cannot take a patch out of {self.global_pool!r} pooling; create the model with "
                "global_pool='avg' or 'token'"
            )
        if self.global_pool == "avg":
            first = 0 if getattr(self, "pool_include_prefix", False) else self.num_prefix_tokens
            x = torch.cat((x[:, :first], _weighted(x[:, first:], edit)), dim=1)
        with RequestedAttention(AttentionRequest(edit)):
            return self.forward_head(x)

    def _normalised(self, x: Tensor) -> Tensor:
        """The tokens [B, N, C] after the last block as `forward_head` takes them."""
        return self.norm(x)

    def _forward_blocks(
        self, images: Tensor, edit: AttentionEdit | None, wanted: Sequence[int] = (), record: Rows = CLASS_ROW
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Class logits [B, num_classes], and the attention logits of the layers wanted."""
        edited_layers, layer_edit = self.layer_edit(images, edit)
        (x, beside), logits = self.embed(images), {}
        for i in range(self.depth):
            layer = layer_edit if i in edited_layers else None
            x, logits[i] = self.forward_block(i, x, beside, layer, record if i in wanted else None)
        return self.classify(x, layer_edit), {i: logits[i] for i in wanted}

    def _rows(self, images: Tensor, queries: str | Sequence[int] | Tensor) -> Rows:
        """The query rows of these images that `queries` names, see `forward_with_attention`."""
        if isinstance(queries, str) and queries in QUERIES:
            self._check_class_token(queries)
            return CLASS_ROW if queries == "cls" else slice(None)
        if not isinstance(queries, Tensor):
            queries = torch.tensor(as_indices(queries, f"queries must be among {QUERIES} or row indices"))
        gh, gw = self.grid(images.shape[-2:])
        N = self.num_prefix_tokens + gh * gw
        if not torch.compiler.is_compiling() and ((queries < -N) | (queries >= N)).any():
            raise UserError(f"queries are {queries.tolist()}; the model has query rows 0 to {N - 1}")
        return queries.to(images.device, torch.long)

    def _check_class_token(self, queries: str) -> None:
        if queries == "cls" and not self.has_class_token:
            raise UserError("queries='cls' needs a class token, which this model lacks; use queries='all'")

    def __prepare_scriptable__(self) -> nn.Module:
        """What `torch.jit.script` compiles: timm's own model, with these weights and without edits."""
        own = {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        model = copy.deepcopy(self, own)
        model.__class__ = next(c for c in type(self).__mro__ if not issubclass(c, EditableViT))
        for module in model.modules():
            if type(module) is SigmoidAttention:
                module.__class__ = Attention
        return model


class PlainForward(EditableViT):
    """A model whose `forward` takes images alone."""

    def forward(self, x: Tensor, edit: AttentionEdit | None = None) -> Tensor:
        """Images x [B, 3, H, W] to class logits [B, num_classes], with `edit` in force if one is given."""
        if edit is None or isinstance(x, Proxy):
            return super().forward(x)
        return self._forward_blocks(x, edit)[0]


class SigmoidViT(VisionTransformer, EditableViT):
    """timm's `VisionTransformer`: ViT, DeiT, DINO, DINOv2, SigLIP, ..."""

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal=False, edit: AttentionEdit | None = None
    ) -> Tensor:
        """Images x [B, 3, H, W] to class logits [B, num_classes], with `edit` in force if one is given."""
        if isinstance(x, Proxy) or (edit is None and self._head_rows() is None):
            return super().forward(x, attn_mask, is_causal)
        if attn_mask is None and not is_causal:
            return self._forward_blocks(x, edit)[0]
        if edit is not None:
            raise UserError("an edit cannot be combined with attn_mask or is_causal; give one of them")
        return super().forward(x, attn_mask, is_causal)

    def embed(self, images: Tensor) -> tuple[Tensor, Beside]:
        x = self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed(images))))
        return x, [{}] * len(self.blocks)

    def forward_block(
        self, i: int, x: Tensor, beside: Beside, edit: LayerEdit | None = None, record: Rows | None = None
    ) -> tuple[Tensor, Tensor | None]:
        head_rows = self._head_rows() if i == len(self.blocks) - 1 else None
        if head_rows is None:
            return super().forward_block(i, x, beside, edit, record)
        checkpointing = self.grad_checkpointing and torch.is_grad_enabled()
        run = partial(checkpoint, run_rows) if checkpointing else run_rows
        return run(self.blocks[i], x, head_rows, edit, record)

    def _head_rows(self) -> int | None:
        """How many first tokens are all that the head reads of the last block; None: compute it in full."""
        block = self.blocks[-1]
        if self.global_pool != "token" or self.attn_pool is not None or type(block) is not Block:
            return None
        if self._is_observed():
            return None
        if self.training and any(m.p > 0 for m in block.modules() if isinstance(m, nn.Dropout)):
            return None  # keeps timm's stream of random numbers
        return 2 if isinstance(self, VisionTransformerDistilled) else 1

    def _is_observed(self) -> bool:
        """Whether a hook, or a `forward` put in place of a module's own, would see that the last block
        computes the rows of the head alone."""
        return _has_any_global_hook() or any(
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
            or "forward" in vars(module)
            for module in (self.blocks, *self.blocks[-1].modules(), self.norm)
        )


class SigmoidViTDistilled(SigmoidViT, VisionTransformerDistilled):
    """The same for distilled DeiT, whose head reads a class and a distillation token."""


def run_block(
    block: nn.Module, x: Tensor, beside: dict, edit: LayerEdit | None, record: Rows | None
) -> tuple[Tensor, Tensor | None]:
    """One block on tokens x [B, N, C]; also the attention logits [B, H, Q, N] of the rows in `record`."""
    if edit is None and record is None:
        return block(x, **beside), None
    request = AttentionRequest(edit, record)
    with RequestedAttention(request):
        x = block(x, **beside)
    return x, request.found[0] if request.found else None


def run_rows(
    block: Block, x: Tensor, rows: int, edit: LayerEdit | None, record: Rows | None
) -> tuple[Tensor, Tensor | None]:
    """The same, for the first `rows` tokens alone.

    Keys and values are computed for all tokens, but attention, projection and MLP for these; only they come
    back: exact when nothing reads the others.
    """
    request = AttentionRequest(edit, record)
    attention = block.attn.forward_rows(block.norm1(x), rows, request)
    x = x[:, :rows] + block.drop_path1(block.ls1(attention))
    x = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
    return x, request.found[0] if request.found else None


def _weighted(x: Tensor, edit: LayerEdit) -> Tensor:
    """Tokens x [B, n, C] whose plain mean is their mean weighted by the odds of an edit."""
    edited, logit = edit.over(x.shape[1])
    odds = logit.exp().transpose(1, 2)  # float32 [B, n, 1]: up to 1e6, too much for float16
    mean = (odds * x.to(odds.dtype)).sum(1, keepdim=True) / odds.sum(1, keepdim=True)
    # keeps an image without edited cells to the bit
    scaled = x * (odds / odds.mean(1, keepdim=True)).to(x.dtype)
    return torch.where(edited.any(-1, keepdim=True), mean.to(x.dtype), scaled)
