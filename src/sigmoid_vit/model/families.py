"""`create_model`, and the classes of timm whose attention can be edited."""

import timm
import torch
from timm.layers import Attention, AttentionRope, PatchEmbed
from timm.models import VisionTransformer, beit, eva, vision_transformer_relpos
from timm.models.beit import Beit
from timm.models.cait import Cait
from timm.models.deepseek_vit import DeepseekVitClassifier, DeepseekVitEncoder
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.gemma4_vit import Gemma4Attention, Gemma4VitClassifier, Gemma4VitEncoder
from timm.models.hiera import Hiera
from timm.models.hieradet_sam2 import HieraDet
from timm.models.mvitv2 import MultiScaleVit
from timm.models.naflexvit import NaFlexVit
from timm.models.qwen3_vit import Qwen3VitClassifier, Qwen3VitEncoder
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.swin_transformer_v2_cr import SwinTransformerV2Cr
from timm.models.vision_transformer import ParallelScalingBlock
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import Tensor, nn
from torch.fx import Proxy

from sigmoid_vit.errors import UserError
from sigmoid_vit.model.attention import SigmoidAttention
from sigmoid_vit.model.cait import SigmoidCait
from sigmoid_vit.model.checkpoints import load_into
from sigmoid_vit.model.edit import AttentionEdit
from sigmoid_vit.model.vit import Beside, EditableViT, PlainForward, SigmoidViT, SigmoidViTDistilled

# softmax attention over all tokens, once a block
ATTENTIONS = {
    Attention,
    AttentionRope,
    eva.EvaAttention,
    beit.Attention,
    vision_transformer_relpos.RelPosAttention,
    Gemma4Attention,
}


def create_model(
    model_name: str, num_classes: int | None = None, pretrained: bool = False, **timm_kwargs
) -> EditableViT:
    """Create a timm Vision Transformer by name, with `timm.create_model`'s arguments and defaults.

    Args:
        model_name: a timm model of one of the classes in FAMILIES (docs/models.md lists the names).
        num_classes: classes of the head; None keeps timm's default.
        pretrained: load timm's published weights (needs the network).
        **timm_kwargs: img_size, patch_size, depth, drop_path_rate, ...; `load_into` reads checkpoint_path.

    Returns:
        An instance of a subclass of the model's own timm class; state_dict keys are timm's.

    Raises:
        UserError: an unknown name, or a model in which an edit would not mean what it says.
    """
    if ":" not in model_name and not timm.is_model(model_name):  # "hf-hub:..." and "local-dir:..." are timm's
        raise UserError(f"unknown model {model_name!r}; timm.list_models('vit*') lists the names")
    if num_classes is not None:
        timm_kwargs["num_classes"] = num_classes
    checkpoint = timm_kwargs.pop("checkpoint_path", "")
    model = timm.create_model(model_name, pretrained=pretrained, **timm_kwargs)
    if reason := refusal(model):
        raise UserError(f"{model_name} cannot be edited: {reason}; docs/models.md lists those that can")
    # timm's builders fix the class; ours adds methods only, so the built model simply becomes one
    model.__class__ = FAMILIES[type(model)]
    for module in model.blocks.modules():
        if type(module) is Attention:
            module.__class__ = SigmoidAttention
    if checkpoint:
        load_into(model, checkpoint)
    return model


def refusal(model: nn.Module) -> str:
    """Why a model of timm cannot be edited; empty if it can."""
    if type(model) not in FAMILIES:
        reason = REFUSED.get(type(model), "has another kind of attention")
        return f"timm's class {type(model).__name__} {reason}"
    whole = getattr(model, "encoder", model)
    stem = getattr(whole, "embeds", getattr(whole, "patch_embed", None))
    stem = next((m for m in stem.modules() if isinstance(m, nn.Conv2d)), None)
    if stem is not None and (type(whole.patch_embed) is not PatchEmbed or stem.kernel_size != stem.stride):
        return "its stem mixes neighbouring patches before the first block, so that none can be removed"
    for block in whole.blocks:
        kinds = {type(m) for m in block.modules() if "Attention" in type(m).__name__}
        if not kinds <= ATTENTIONS or not (hasattr(block, "attn") or type(block) is ParallelScalingBlock):
            return f"its {type(block).__name__} has more than one softmax attention"
    if (merged := getattr(model, "encoder_pool", "")) not in ("", "none"):
        return f"it merges patches at the end (encoder_pool={merged!r}); encoder_pool='' can be edited"
    return ""


class SigmoidEva(Eva, EditableViT):
    """timm's `Eva`, rotary positions: DINOv3, EVA-02, Perception Encoder, rope ViTs, ..."""

    has_class_token = property(lambda self: self.cls_token is not None)

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal=False, edit: AttentionEdit | None = None
    ) -> Tensor:
        """Images x [B, 3, H, W] to class logits [B, num_classes], with `edit` in force if one is given."""
        if edit is None or isinstance(x, Proxy):
            return super().forward(x, attn_mask, is_causal)
        if attn_mask is not None or is_causal:
            raise UserError("an edit cannot be combined with attn_mask or is_causal; give one of them")
        return self._forward_blocks(x, edit)[0]

    def embed(self, images: Tensor) -> tuple[Tensor, Beside]:
        x, rope = self._pos_embed(self.patch_embed(images))
        mixed = getattr(self, "rope_mixed", False) and rope is not None  # one for each block
        return self.norm_pre(x), [{"rope": rope[i] if mixed else rope} for i in range(len(self.blocks))]


class SigmoidBeit(PlainForward, Beit):
    """timm's `Beit`: BEiT, BEiTv2; relative positions, which an edit replaces."""

    has_class_token = True

    def embed(self, images: Tensor) -> tuple[Tensor, Beside]:
        x = self.patch_embed(images)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        x = self.pos_drop(x if self.pos_embed is None else x + self.pos_embed)
        bias = None if self.rel_pos_bias is None else self.rel_pos_bias()
        return x, [{"shared_rel_pos_bias": bias}] * len(self.blocks)


class SigmoidRelPos(PlainForward, VisionTransformerRelPos):
    """timm's `VisionTransformerRelPos`: relative positions, which an edit replaces."""

    has_class_token = property(lambda self: self.cls_token is not None)

    def embed(self, images: Tensor) -> tuple[Tensor, Beside]:
        x = self.patch_embed(images)
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        bias = None if self.shared_rel_pos is None else self.shared_rel_pos.get_bias()
        return x, [{"shared_rel_pos": bias}] * len(self.blocks)


class SigmoidNaFlex(NaFlexVit, EditableViT):
    """timm's `NaFlexVit`, images of any shape; edits are of images [B, 3, H, W], whose grid they share."""

    has_class_token = property(lambda self: self.embeds.cls_token is not None)
    cell_size = property(lambda self: tuple(self.embeds.patch_size))

    def forward(
        self,
        x: Tensor | dict[str, Tensor],
        patch_coord: Tensor | None = None,
        patch_valid: Tensor | None = None,
        attn_mask: Tensor | None = None,
        edit: AttentionEdit | None = None,
    ) -> Tensor:
        """As timm's; with `edit`, images x [B, 3, H, W] to class logits [B, num_classes]."""
        if edit is None or isinstance(x, Proxy):
            return super().forward(x, patch_coord, patch_valid, attn_mask)
        if not isinstance(x, Tensor) or x.ndim != 4 or (patch_coord, patch_valid, attn_mask) != (None,) * 3:
            raise UserError("an edit needs images [B, 3, H, W] alone, without coordinates or masks")
        return self._forward_blocks(x, edit)[0]

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return tuple(side // cell for side, cell in zip(size, self.cell_size, strict=True))

    def embed(self, images: Tensor) -> tuple[Tensor, Beside]:
        found = self._forward_embeds(images, None, None, None)
        rope = found["rope_embeds"]
        ropes = [rope] * len(self.blocks) if rope is None or not self.rope_is_mixed else list(rope)
        return found["patches"], [{} if rope is None else {"rope": rope} for rope in ropes]


class Tower(PlainForward):
    """The vision tower of a vision-language model, in timm's wrapper with a classifier: `self.encoder`."""

    has_class_token = False
    blocks = property(lambda self: self.encoder.blocks)
    patch_embed = property(lambda self: self.encoder.patch_embed)
    grad_checkpointing = property(lambda self: self.encoder.grad_checkpointing)

    def embed(self, images: Tensor) -> tuple[Tensor, Beside]:
        x, rope = self.encoder._pos_embed(self.encoder.patch_embed(images))
        return x, [{"rope": rope}] * len(self.blocks)

    def _normalised(self, x: Tensor) -> Tensor:
        return x


class SigmoidQwen3(Tower, Qwen3VitClassifier):
    """timm's `Qwen3VitClassifier`."""


class SigmoidDeepseek(Tower, DeepseekVitClassifier):
    """timm's `DeepseekVitClassifier`."""

    def _normalised(self, x: Tensor) -> Tensor:
        return self.encoder.norm(x)


class SigmoidGemma4(Tower, Gemma4VitClassifier):
    """timm's `Gemma4VitClassifier`."""

    num_prefix_tokens = 0
    cell_size = property(lambda self: tuple(self.encoder.patch_size))
    grid = SigmoidNaFlex.grid

    def embed(self, images: Tensor) -> tuple[Tensor, Beside]:
        x, places, _ = self.encoder.patch_embed(images)
        cos, sin = self.encoder.rotary_emb(x, places)
        return x, [{"rope_cos": cos, "rope_sin": sin}] * len(self.blocks)


FAMILIES = {
    VisionTransformer: SigmoidViT,
    VisionTransformerDistilled: SigmoidViTDistilled,
    Eva: SigmoidEva,
    Beit: SigmoidBeit,
    VisionTransformerRelPos: SigmoidRelPos,
    Cait: SigmoidCait,
    NaFlexVit: SigmoidNaFlex,
    Qwen3VitClassifier: SigmoidQwen3,
    DeepseekVitClassifier: SigmoidDeepseek,
    Gemma4VitClassifier: SigmoidGemma4,
}

_WINDOWS = "attends in windows and merges patches between its stages, so that no cell can be removed"
_ENCODER = "has no classifier; its namesake without _enc has one"
REFUSED = {
    SwinTransformer: _WINDOWS,
    SwinTransformerV2: _WINDOWS,
    SwinTransformerV2Cr: _WINDOWS,
    Hiera: _WINDOWS,
    HieraDet: _WINDOWS,
    MultiScaleVit: "averages the keys of neighbouring patches, so that none can be removed",
    Qwen3VitEncoder: _ENCODER,
    DeepseekVitEncoder: _ENCODER,
    Gemma4VitEncoder: _ENCODER,
}
