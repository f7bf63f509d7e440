"""Every family of `create_model`: timm's own outputs without an edit, and the plain method's with one."""

from functools import cache

import pytest
import timm
import torch
from helpers.reference import materialised, random_edit
from torch.nn.functional import cross_entropy

from sigmoid_vit import AttentionEdit, UserError, create_model, decision_map

SMALL = dict(embed_dim=32, num_heads=2)
NAMES = {  # one of each kind of attention, position and pooling
    "vit_base_patch16_siglip_224": SMALL,  # pooled by attention
    "vit_base_patch16_siglip_gap_224": SMALL,  # pooled by a mean
    "vit_base_patch16_rpn_224": SMALL,
    "vit_base_patch16_xp_224": SMALL,  # attention and MLP side by side
    "vit_small_patch16_dinov3": SMALL,
    "vit_small_patch16_dinov3_qkvb": SMALL,
    "eva02_tiny_patch14_224": SMALL,
    "eva_giant_patch14_224": SMALL,
    "vit_pe_core_tiny_patch16_384": SMALL,
    "vit_small_patch16_rope_mixed_ape_224": SMALL,
    "vit_medium_patch16_rope_reg1_gap_256": SMALL,
    "beit_base_patch16_224": SMALL,
    "vit_relpos_small_patch16_224": SMALL,
    "vit_relpos_base_patch16_cls_224": SMALL,
    "vit_srelpos_small_patch16_224": SMALL,
    "cait_xxs24_224": SMALL,  # heads mixed after the softmax, then blocks of the class token alone
    "cait_xxs24_224 gap": SMALL,
    "naflexvit_base_patch16_gap": {},
    "naflexvit_base_patch16_map": {},
    "qwen3_vit_88m": SMALL,
    "deepseek_vit_412m": SMALL,
    "gemma4_vit_167m": {},
}


@cache
def pair(name):
    """A model of ours with attention far from uniform, timm's own with the same weights, and images."""
    cell = 14 if "patch14" in name or "deepseek" in name else 16
    size = 6 * cell if "gemma" in name else 4 * cell  # its grid is a multiple of 3
    kwargs = dict(NAMES[name], depth=2, num_classes=5, img_size=size)
    name, _, pooling = name.partition(" ")
    if pooling:
        kwargs["global_pool"] = "avg"
    torch.manual_seed(0)
    model = create_model(name, **kwargs).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim == 1 and ("gamma" in key or "ls" in key):
                parameter.fill_(1)  # a fresh layer scale hides what the block does
            elif "proj_l" in key or "proj_w" in key:
                parameter.normal_()
            elif parameter.ndim == 2 and any(
                part in key for part in ("qkv", "q_proj", "k_proj", ".q.", ".k.", "head")
            ):
                parameter.normal_(std=0.3 / parameter.shape[1] ** 0.5 * (6 if "head" not in key else 1))
    twin = timm.create_model(name, **kwargs).eval()
    twin.load_state_dict(model.state_dict())
    return model, twin, torch.randn(2, 3, size, size)


def edit_of(model, images, **kwargs):
    return random_edit(2, model.grid(images.shape[-2:]), **kwargs)


@pytest.mark.parametrize("name", NAMES)
def test_unedited_it_is_timms(name):
    model, twin, images = pair(name)
    assert isinstance(model, type(twin))
    assert model.state_dict().keys() == twin.state_dict().keys()
    for training in (False, True):
        results = []
        for network in (model.train(training), twin.train(training)):
            torch.manual_seed(0)  # rotary positions of DINOv3 are drawn at random in training
            network.zero_grad()
            out = network(images)
            cross_entropy(out, torch.tensor([1, 3])).backward()
            results.append([out, *(p.grad for p in network.parameters() if p.grad is not None)])
        for own, timms in zip(*results, strict=True):
            torch.testing.assert_close(own, timms, atol=1e-5, rtol=0)
    model.eval(), twin.eval()
    out, logits = model.forward_with_attention(images, layers="all", queries="all")
    assert torch.equal(out, model(images))
    _, expected, _ = materialised(model, images)
    for i in range(model.depth):
        torch.testing.assert_close(logits[i], expected[i], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_is_the_plain_methods(name):
    model, _, images = pair(name)
    everywhere, heads = dict(), dict(heads=[1], layers=[0])
    scopes = [everywhere, dict(layers="last"), heads, dict(per_head=model.num_heads)]
    scopes += [dict(queries="cls"), dict(queries="cls", layers=[0], heads=[0])] * model.has_class_token
    for scope in scopes:
        edit = edit_of(model, images, **scope)
        expected, own, _ = materialised(model, images, edit)
        got, logits = model.forward_with_attention(images, edit, layers="all", queries="all")
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4, msg=lambda m, s=scope: f"{s}: {m}")
        torch.testing.assert_close(model(images, edit=edit), got)
        torch.testing.assert_close(logits[1], own[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_an_erased_patch_reaches_the_answer(name):
    """Its pixels may be anything: the answer stays; not so where it is not erased."""
    model, _, images = pair(name)
    gh, gw = model.grid(images.shape[-2:])
    edited = torch.zeros(1, gh, gw, dtype=torch.bool)
    edited[0, 1, 2] = True
    edit = AttentionEdit(torch.zeros(1, gh, gw), edited)
    h, w = model.cell_size
    other = images.clone()
    other[..., h : 2 * h, 2 * w : 3 * w] = 3 * torch.randn(2, 3, h, w)
    with torch.no_grad():
        moved = (model(other) - model(images)).abs().max()
        leak = (model(other, edit=edit) - model(images, edit=edit)).abs().max()
    assert leak <= 1e-4 * moved


@pytest.mark.parametrize(
    "name", ["vit_small_patch16_dinov3", "beit_base_patch16_224", "qwen3_vit_88m", "cait_xxs24_224"]
)
def test_the_decision_map_is_the_effect_of_erasing(name):
    model, _, images = pair(name)
    found = decision_map(model, images, 1)
    gh, gw = model.grid(images.shape[-2:])
    edited = torch.zeros(1, gh, gw, dtype=torch.bool)
    edited[0, 2, 1] = True
    edit = AttentionEdit(torch.zeros(1, gh, gw), edited)
    fall = (model(images).log_softmax(1) - model(images, edit=edit).log_softmax(1))[:, 1]
    torch.testing.assert_close(found[:, 2, 1], fall.detach(), atol=1e-5, rtol=1e-4)
    assert decision_map(model, images, 1, exact=False).shape == (2, gh, gw)


@pytest.mark.parametrize(
    "name", ["eva02_tiny_patch14_224", "vit_relpos_base_patch16_cls_224", "qwen3_vit_88m", "cait_xxs24_224"]
)
def test_machinery_changes_nothing(name):
    """Gradient checkpointing, a compiled graph, attention computed by hand: an edit has the same result."""
    model, _, images = pair(name)
    edit = edit_of(model, images)

    def result(run):
        model.zero_grad()
        out = run(images, edit=edit)
        out.square().sum().backward()
        return [out, *(p.grad for p in model.parameters() if p.grad is not None)]

    expected = result(model)
    model.set_grad_checkpointing(True)
    checkpointed = result(model)
    model.set_grad_checkpointing(False)
    torch._dynamo.reset()
    compiled = result(torch.compile(model, backend="aot_eager", fullgraph=True))
    for module in model.modules():
        if getattr(module, "fused_attn", False):
            module.fused_attn = False
    by_hand = result(model)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = True
    for found in (checkpointed, compiled, by_hand):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_an_edit_of_one_image_holds_for_a_batch():
    model, _, images = pair("vit_small_patch16_dinov3")
    one = edit_of(model, images)[:1]
    both = AttentionEdit(one.value.expand(2, -1, -1), one.edited.expand(2, -1, -1))
    assert torch.equal(model(images, edit=one), model(images, edit=both))


def test_a_pooling_that_cannot_leave_a_patch_out_is_refused():
    model = create_model("vit_tiny_patch16_224", img_size=64, depth=1, global_pool="max", num_classes=5)
    images = torch.randn(2, 3, 64, 64)
    assert model(images).shape == (2, 5)
    with pytest.raises(UserError, match="pooling"):
        model(images, edit=edit_of(model, images))
    model(images, edit=edit_of(model, images, layers="last", heads=[0]))  # not meant to take a patch out
