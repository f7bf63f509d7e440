"""A timm Vision Transformer, its weights, arguments and outputs unchanged, whose attention can be edited."""

import copy
from collections.abc import Sequence
from functools import partial

import timm
import torch
from timm.layers import Attention
from timm.models import VisionTransformer, checkpoint
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules.module import _has_any_global_hook

from sigmoid_vit.errors import UserError
from sigmoid_vit.model.attention import AttentionRequest, SigmoidAttention
from sigmoid_vit.model.edit import QUERIES, AttentionEdit, LayerEdit, as_indices, resolve_indices

Rows = slice | Tensor  # which query rows, by position among the N tokens
CLASS_ROW = slice(0, 1)  # the class token is the first of the N tokens


def create_model(
    model_name: str, num_classes: int | None = None, pretrained: bool = False, **timm_kwargs
) -> "SigmoidViT":
    """Create a timm Vision Transformer by name, with `timm.create_model`'s arguments and defaults.

    Args:
        model_name: any timm model built on `timm.models.VisionTransformer` (ViT, DeiT, DINO, DINOv2, ...).
        num_classes: classes of the head; None keeps timm's default.
        pretrained: load timm's published weights (needs the network).
        **timm_kwargs: img_size, patch_size, depth, drop_path_rate, ...

    Returns:
        An instance of a subclass of the model's own timm class; state_dict keys are timm's.

    Raises:
        UserError: an unknown name, or a model that is not built on `VisionTransformer` and its `Attention`.
    """
    if ":" not in model_name and not timm.is_model(model_name):  # "hf-hub:..." and "local-dir:..." are timm's
        raise UserError(f"unknown model {model_name!r}; timm.list_models('vit*') lists the names")
    if num_classes is not None:
        timm_kwargs["num_classes"] = num_classes
    model = timm.create_model(model_name, pretrained=pretrained, **timm_kwargs)
    subclass = {VisionTransformer: SigmoidViT, VisionTransformerDistilled: SigmoidViTDistilled}.get(
        type(model)
    )
    attentions = [getattr(block, "attn", None) for block in getattr(model, "blocks", [])]
    if subclass is None or any(type(attention) is not Attention for attention in attentions):
        raise UserError(f"{model_name} is not built on timm's VisionTransformer with its standard attention")
    # timm's builders fix the class; ours adds methods only, so the built model simply becomes one
    model.__class__ = subclass
    for attention in attentions:
        attention.__class__ = SigmoidAttention
    return model


class SigmoidViT(VisionTransformer):
    """timm's `VisionTransformer` with attention that can be read and edited. Built by `create_model`."""

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal=False, edit: AttentionEdit | None = None
    ) -> Tensor:
        """Images x [B, 3, H, W] to class logits [B, num_classes], with `edit` in force if one is given."""
        if isinstance(x, Proxy) or (edit is None and self._is_observed()):
            return super().forward(x, attn_mask, is_causal)
        if attn_mask is None and not is_causal:
            return self.forward_head(self._forward_tokens(x, edit)[0])
        if edit is not None:
            raise UserError("an edit cannot be combined with attn_mask or is_causal; give one of them")
        return super().forward(x, attn_mask=attn_mask, is_causal=is_causal)

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
        wanted = resolve_indices(layers, len(self.blocks), "layer")
        tokens, logits = self._forward_tokens(images, edit, wanted, self._rows(images, queries))
        return self.forward_head(tokens), logits

    def embed(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] to the tokens in front of the first block, [B, N, C]."""
        return self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed(images))))

    def layer_edit(self, images: Tensor, edit: AttentionEdit | None) -> tuple[list[int], LayerEdit | None]:
        """The layers that an edit of these images applies to, and the edit over all N keys."""
        if edit is None:
            return [], None
        if not isinstance(edit, AttentionEdit):
            raise UserError(f"edit must be an AttentionEdit(value, edited), not {type(edit).__name__}")
        self._check_class_token(edit.queries)
        if self.training and getattr(self.patch_drop, "prob", 0) > 0:
            raise UserError("an edit needs every patch; create the model with patch_drop_rate=0")
        grid = tuple(self.patch_embed.dynamic_feat_size(images.shape[-2:]))
        num_heads = self.blocks[0].attn.num_heads
        layer_edit = edit.over_keys(len(images), grid, num_heads, self.num_prefix_tokens, images.device)
        return resolve_indices(edit.layers, len(self.blocks), "layer"), layer_edit

    def forward_block(
        self, i: int, x: Tensor, edit: LayerEdit | None = None, record: Rows | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens x [B, N, C] through block i, and its attention logits [B, H, Q, N] of the rows in `record`.

        Of the last block, only the tokens that the head reads come back.
        """
        head_rows = self._head_rows() if i == len(self.blocks) - 1 else None
        checkpointing = self.grad_checkpointing and torch.is_grad_enabled()
        run = partial(checkpoint, run_block) if checkpointing else run_block
        return run(self.blocks[i], x, edit, record, head_rows)

    def _forward_tokens(
        self, images: Tensor, edit: AttentionEdit | None, wanted: Sequence[int] = (), record: Rows = CLASS_ROW
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Normalised tokens [B, N, C], or only those the head reads, and the attention logits wanted."""
        edited_layers, layer_edit = self.layer_edit(images, edit)
        x, logits = self.embed(images), {}
        for i in range(len(self.blocks)):
            layer = layer_edit if i in edited_layers else None
            x, logits[i] = self.forward_block(i, x, layer, record if i in wanted else None)
        return self.norm(x), {i: logits[i] for i in wanted}

    def _rows(self, images: Tensor, queries: str | Sequence[int] | Tensor) -> Rows:
        """The query rows of these images that `queries` names, see `forward_with_attention`."""
        if isinstance(queries, str) and queries in QUERIES:
            self._check_class_token(queries)
            return CLASS_ROW if queries == "cls" else slice(None)
        if not isinstance(queries, Tensor):
            queries = torch.tensor(as_indices(queries, f"queries must be among {QUERIES} or row indices"))
        gh, gw = self.patch_embed.dynamic_feat_size(images.shape[-2:])
        N = self.num_prefix_tokens + gh * gw
        if not torch.compiler.is_compiling() and ((queries < -N) | (queries >= N)).any():
            raise UserError(f"queries are {queries.tolist()}; the model has query rows 0 to {N - 1}")
        return queries.to(images.device, torch.long)

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

    def __prepare_scriptable__(self) -> VisionTransformer:
        """What `torch.jit.script` compiles: timm's own model, with these weights and without edits."""
        own = {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        model = copy.deepcopy(self, own)
        model.__class__ = next(c for c in type(self).__mro__ if not issubclass(c, SigmoidViT))
        for block in model.blocks:
            if type(block.attn) is SigmoidAttention:
                block.attn.__class__ = Attention
        return model

    def _check_class_token(self, queries: str) -> None:
        if queries == "cls" and not self.has_class_token:
            raise UserError("queries='cls' needs a class token, which this model lacks; use queries='all'")


class SigmoidViTDistilled(SigmoidViT, VisionTransformerDistilled):
    """The same for distilled DeiT, whose head reads a class and a distillation token."""


def run_block(
    block: nn.Module, x: Tensor, edit: LayerEdit | None, record: Rows | None, head_rows: int | None
) -> tuple[Tensor, Tensor | None]:
    """One block on tokens x [B, N, C]; also the attention logits [B, H, Q, N] of the rows in `record`.

    With `head_rows`, keys and values are computed for all tokens, but attention, projection and MLP for the
    first `head_rows` tokens alone, and only those come back: exact when nothing reads the others.
    """
    if edit is None and record is None and head_rows is None:
        return block(x), None
    request = AttentionRequest(edit, record, head_rows)
    if head_rows is None:
        x = block(x, attn_mask=request)
    else:
        x = x[:, :head_rows] + block.drop_path1(block.ls1(block.attn(block.norm1(x), attn_mask=request)))
        x = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
    return x, request.logits
