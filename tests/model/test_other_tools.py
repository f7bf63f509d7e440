"""Hooks, tracers and explainers of others see timm's model: what they find in it, they find in this one."""

import copy
import types

import pytest
import timm
import torch
from timm.layers import set_fused_attn
from timm.utils import AttentionExtract
from torch.nn.modules.module import register_module_forward_hook
from torchvision.models.feature_extraction import create_feature_extractor

from sigmoid_vit import AttentionEdit, create_model

GRID, CLASS = 4, 3
SIZES = dict(img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=4, num_classes=7)


@pytest.fixture(scope="module")
def pair():
    """timm's model and this one, of the same weights, which compute attention where hooks can see it."""
    torch.manual_seed(0)
    set_fused_attn(False)
    try:
        stock = timm.create_model("vit_tiny_patch16_224", **SIZES).eval()
        own = create_model("vit_tiny_patch16_224", **SIZES).eval()
    finally:
        set_fused_attn(True)
    for parameter in stock.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    own.load_state_dict(stock.state_dict())
    return stock, own


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def recorded(register, model, images, backward=False):
    """What a hook is given, all in one row."""
    seen = []

    def hook(module, *given):
        given = given[-1][0] if isinstance(given[-1], tuple) else given[-1]
        seen.append(given.detach().flatten())

    handles = register(hook)
    scores = model(images)[:, CLASS]
    if backward:
        scores.sum().backward()
    for handle in handles:
        handle.remove()
    return torch.cat(seen)


def of_blocks(model, images):
    return recorded(lambda hook: [b.register_forward_hook(hook) for b in model.blocks], model, images)


def of_attention(model, images):
    def register(hook):
        return [block.attn.attn_drop.register_forward_hook(hook) for block in model.blocks]

    return recorded(register, model, images)


def of_gradients(model, images):
    def register(hook):
        return [block.register_full_backward_hook(hook) for block in model.blocks]

    return recorded(register, model, images, backward=True)


def of_inputs(model, images):
    modules = (model.blocks, model.norm)
    return recorded(lambda hook: [m.register_forward_pre_hook(hook) for m in modules], model, images)


def of_all_modules(model, images):
    return recorded(lambda hook: [register_module_forward_hook(hook)], model, images)


def extracted_by_hooks(model, images):
    return torch.stack(list(AttentionExtract(copy.deepcopy(model), method="hook")(images).values()))


def extracted_by_fx(model, images):
    return torch.stack(list(AttentionExtract(copy.deepcopy(model), method="fx")(images).values()))


def of_torchvisions_extractor(model, images):
    return create_feature_extractor(model, ["blocks.2.norm1", "norm"])(images)["norm"]


def of_torch_script(model, images):
    scripted = torch.jit.script(model)
    assert scripted.head.weight.data_ptr() == model.head.weight.data_ptr()
    return scripted(images)


def of_a_forward_put_in(model, images):
    """As packages do that read attention by methods of their own."""
    model, maps = copy.deepcopy(model), []

    def forward(self, x, attn_mask=None, is_causal=False):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        maps.append((q @ k.transpose(-2, -1) * self.scale).softmax(-1))
        return self.proj((maps[-1] @ v).transpose(1, 2).flatten(2))

    for block in model.blocks:
        block.attn.forward = types.MethodType(forward, block.attn)
    model(images)
    return torch.stack(maps)


def captums_grad_cam(model, images):
    attr = pytest.importorskip("captum.attr")
    cam = attr.LayerGradCam(model, model.blocks[-1])
    return cam.attribute(images, CLASS, attr_dim_summation=False)


def captums_integrated_gradients(model, images):
    attr = pytest.importorskip("captum.attr")
    return attr.LayerIntegratedGradients(model, model.blocks[-1]).attribute(images, target=CLASS)


def grad_cam(model, images):
    package = pytest.importorskip("pytorch_grad_cam")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")

    def on_grid(tokens):
        return tokens[:, 1:].unflatten(1, (GRID, GRID)).movedim(-1, 1)

    layers = [model.blocks[-1].norm1]
    with package.GradCAM(model, layers, reshape_transform=on_grid) as cam:
        return torch.from_numpy(cam(images, [targets.ClassifierOutputTarget(CLASS)] * len(images)))


def zennits_relevance(model, images):
    composites = pytest.importorskip("zennit.composites")
    attribution = pytest.importorskip("zennit.attribution")
    target = torch.eye(SIZES["num_classes"])[[CLASS] * len(images)]
    with attribution.Gradient(model, composites.EpsilonPlusFlat()) as attributor:
        return attributor(images.clone().requires_grad_(), target)[1]


def torchcams(model, images):
    methods = pytest.importorskip("torchcam.methods")
    with methods.GradCAM(model, "blocks.2.mlp.fc2") as cam:
        return cam(CLASS, model(images[:1]))[0]


TOOLS = [
    of_blocks,
    of_attention,
    of_gradients,
    of_inputs,
    of_all_modules,
    extracted_by_hooks,
    extracted_by_fx,
    of_torchvisions_extractor,
    of_torch_script,
    of_a_forward_put_in,
    captums_grad_cam,
    captums_integrated_gradients,
    grad_cam,
    zennits_relevance,
    torchcams,
]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_a_tool_finds_the_same_in_both(pair, images, tool):
    theirs, ours = (tool(model, images) for model in pair)
    assert theirs.abs().max() > 0
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_nothing_is_left_of_a_tool(pair, images):
    """The last block computes the row of the head alone again."""
    before = pair[1](images)
    of_blocks(pair[1], images)
    assert not pair[1]._is_observed()
    assert torch.equal(pair[1](images), before)


def test_an_edited_pass_is_seen_as_well(pair, images):
    model, seen = pair[1], []
    edit = AttentionEdit(torch.zeros(4, GRID, GRID), torch.ones(4, GRID, GRID).triu().bool())
    plain = model(images, edit=edit)
    handles = [block.register_forward_hook(lambda m, i, out: seen.append(out)) for block in model.blocks]
    observed = model(images, edit=edit)
    for handle in handles:
        handle.remove()
    assert [tokens.shape[1] for tokens in seen] == [GRID**2 + 1] * 3
    torch.testing.assert_close(observed, plain)
    torch.testing.assert_close(model.forward_head(model.norm(seen[-1])), plain)
