"""The unedited network is timm's; an edit is exactly what the plain method says, and moves nothing else."""

import pickle

import numpy as np
import pytest
import timm
import torch
from helpers.reference import TINY, materialised, random_edit, stock, tiny_model
from torch.nn.functional import cross_entropy

from sigmoid_vit import AttentionEdit, SigmoidAttention, UserError, create_model

SMALL = dict(depth=2, num_classes=7)
MODELS = {
    "vit_tiny_patch16_224": dict(SMALL),
    "vit_small_patch16_224": dict(SMALL),
    "deit_small_patch16_224": dict(SMALL),
    "deit_tiny_distilled_patch16_224": dict(SMALL),
    "vit_small_patch16_224.dino": dict(SMALL),
    "vit_small_patch14_reg4_dinov2": dict(SMALL, img_size=70),
    "vit_small_r26_s32_224": None,  # a convolutional stem mixes patches: refused
    "vitamin_small_224": None,  # so does this one
    "vit_small_patch16_18x2_224": None,  # parallel blocks: refused
    "vit_dpwee_patch16_reg1_gap_256": None,  # differential attention: refused
    "resnet18": None,
}
VARIANTS = {
    "qk_norm": dict(qk_norm=True),
    "avg": dict(global_pool="avg"),
    "map": dict(global_pool="map"),
    "no_class_token": dict(global_pool="avg", class_token=False),
    "non_square": dict(img_size=(32, 48)),
    "dynamic": dict(dynamic_img_size=True),
    "layer_scale": dict(init_values=0.1),
    "registers": dict(reg_tokens=3),
    "scale_norm": dict(scale_attn_norm=True),
    "no_bias": dict(qkv_bias=False),
}


def grads(model, images):
    model.zero_grad()
    cross_entropy(model(images), torch.arange(len(images)) % 5).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_network(ours, theirs, images):
    for training in (False, True):
        ours.train(training), theirs.train(training)
        with torch.no_grad():
            expected, got = theirs(images), ours(images)
        if isinstance(expected, tuple):
            expected, got = torch.cat(expected), torch.cat(got)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
        if ours._head_rows() is None:
            assert torch.equal(got, expected)
        expected, got = grads(theirs, images), grads(ours, images)
        assert expected.keys() == got.keys()
        for name in expected:
            scale = expected[name].abs().max().clamp_min(1e-3)
            assert (expected[name] - got[name]).abs().max() <= 1e-5 * scale, name


@pytest.mark.parametrize("name", [name for name, kwargs in MODELS.items() if kwargs])
def test_unedited_equals_timm(name):
    torch.manual_seed(0)
    model = create_model(name, **MODELS[name])
    twin = stock(model, name, **{k: v for k, v in MODELS[name].items() if k != "num_classes"})
    size = twin.patch_embed.img_size
    assert_same_network(model, twin, torch.randn(2, 3, *size))


@pytest.mark.parametrize("variant", VARIANTS)
def test_unedited_variant_equals_timm(variant):
    kwargs = VARIANTS[variant]
    model = tiny_model(**kwargs)
    size = (48, 40) if variant == "dynamic" else model.patch_embed.img_size
    assert_same_network(model, stock(model, **{**TINY, **kwargs}), torch.randn(3, 3, *size))


def test_dropout_follows_timms_random_stream():
    kwargs = dict(attn_drop_rate=0.2, proj_drop_rate=0.1, drop_path_rate=0.3, drop_rate=0.1)
    model = tiny_model(**kwargs).train()
    twin, images = stock(model, **{**TINY, **kwargs}), torch.randn(4, 3, 32, 32)
    outputs = []
    for network in (model, twin):
        torch.manual_seed(7)
        outputs.append(network(images))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("name", [name for name, kwargs in MODELS.items() if not kwargs] + ["no_such_model"])
def test_other_models_are_refused(name):
    with pytest.raises(UserError, match=name):
        create_model(name)


def test_is_timms_class_with_timms_keys():
    model = tiny_model()
    assert isinstance(model, timm.models.VisionTransformer)
    assert all(isinstance(block.attn, SigmoidAttention) for block in model.blocks)
    assert model.state_dict().keys() == stock(model, **TINY).state_dict().keys()
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(pickle.loads(pickle.dumps(model))(images), model(images))
    assert torch.equal(model.forward_features(images), stock(model, **TINY).forward_features(images))


# ---------------------------------------------------------------- the edit

SCOPES = [
    dict(layers=layers, heads=heads, queries=queries)
    for layers in ("all", "last", [0], [-2, 2])
    for heads in (None, [1])
    for queries in ("cls", "all")
]


@pytest.mark.parametrize("scope", SCOPES, ids=str)
@pytest.mark.parametrize("variant", ["plain", "registers", "qk_norm", "scale_norm"])
def test_edit_equals_materialised(scope, variant):
    model, images = tiny_model(**VARIANTS.get(variant, {})), torch.randn(2, 3, 32, 32)
    edit = random_edit(**scope)
    expected, expected_logits, rows = materialised(model, images, edit)
    torch.testing.assert_close(model(images, edit=edit), expected, atol=1e-5, rtol=1e-5)
    got, logits = model.forward_with_attention(images, edit=edit, layers="all", queries="all")
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    for i in range(3):
        torch.testing.assert_close(logits[i], expected_logits[i], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(rows[i].sum(-1), torch.ones_like(rows[i].sum(-1)))


@pytest.mark.parametrize("kwargs", [{}, VARIANTS["avg"], VARIANTS["no_class_token"], VARIANTS["non_square"]])
def test_edit_per_head_equals_materialised(kwargs):
    model = tiny_model(**kwargs)
    grid = model.patch_embed.grid_size
    images, edit = torch.randn(2, 3, *model.patch_embed.img_size), random_edit(grid=grid, per_head=2)
    torch.testing.assert_close(
        model(images, edit=edit), materialised(model, images, edit)[0], atol=1e-5, rtol=1e-5
    )


def test_distilled_edit_equals_materialised():
    name = "deit_tiny_distilled_patch16_224"
    model, images = tiny_model(name), torch.randn(2, 3, 32, 32)
    for queries in ("cls", "all"):
        edit = random_edit(queries=queries)
        expected = materialised(model, images, edit)[0]
        torch.testing.assert_close(model(images, edit=edit), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("queries", ["cls", "all"])
def test_gradients_equal_materialised(queries):
    model, images = tiny_model(), torch.randn(2, 3, 32, 32)
    edit, labels = random_edit(queries=queries), torch.tensor([1, 3])

    def gradients(class_logits):
        model.zero_grad()
        cross_entropy(class_logits, labels).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    expected = gradients(materialised(model, images, edit)[0])
    got = gradients(model(images, edit=edit))
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5 * b.abs().max().clamp_min(1e-3).item(), rtol=0)


@pytest.mark.parametrize("queries", ["cls", "all"])
def test_gradcheck_float64(queries):
    model = tiny_model(depth=2).double()
    edit = random_edit(batch=1, queries=queries)

    def through_qkv(weight, images):
        parameters = {**dict(model.named_parameters()), "blocks.0.attn.qkv.weight": weight}
        return torch.func.functional_call(model, parameters, (images,), {"edit": edit})

    weight = model.blocks[0].attn.qkv.weight.detach().mul(0.2).requires_grad_()
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(through_qkv, (weight, images), fast_mode=True)


@pytest.mark.parametrize("queries", ["cls", "all"])
def test_edited_logits_get_no_gradient(queries):
    model, edit, keys = tiny_model(), random_edit(1, layers="last", queries=queries), []
    model.blocks[-1].attn.k_norm.register_forward_hook(
        lambda module, args, k: k.retain_grad() or keys.append(k)
    )
    model(torch.randn(1, 3, 32, 32), edit=edit).sum().backward()
    size = keys[0].grad[0, :, 1:].norm(dim=-1)  # [H, patches]
    edited = edit.edited[0].flatten()
    assert (size[:, edited] == 0).all()
    assert (size[:, ~edited] > 0).all()


@pytest.mark.parametrize("queries", ["cls", "all"])
def test_edit_moves_only_what_it_names(queries):
    model, images = tiny_model(reg_tokens=2), torch.randn(3, 3, 32, 32)
    edit = random_edit(3, layers=[1], heads=[1], queries=queries)
    edit.edited[1] = False
    plain, before = model.forward_with_attention(images, layers="all", queries="all")
    changed, after = model.forward_with_attention(images, edit=edit, layers="all", queries="all")
    assert torch.equal(before[0], after[0])  # an earlier layer
    assert torch.equal(before[1], after[1])  # the layer itself: its own logits, before the edit
    for i in range(3):
        assert torch.equal(before[i][1], after[i][1])  # another image
    assert torch.equal(plain[1], changed[1])
    assert not torch.equal(before[2][0], after[2][0])  # and the edit does reach later layers
    assert not torch.equal(plain[0], changed[0])

    def tokens_after_layer_1(edit):
        kept = []
        handle = model.blocks[1].register_forward_hook(lambda block, args, out: kept.append(out))
        model.forward_with_attention(images, edit=edit)
        handle.remove()
        return kept[0]

    moved = (tokens_after_layer_1(None) != tokens_after_layer_1(edit)).any(-1)  # [B, N]
    assert moved[0, 0]
    assert not moved[1].any()
    assert moved[0, 1:].all() if queries == "all" else not moved[0, 1:].any()


def test_an_empty_edit_changes_nothing():
    model, images = tiny_model(), torch.randn(2, 3, 32, 32)
    for queries in ("cls", "all"):
        edit = AttentionEdit(torch.rand(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool), queries=queries)
        assert torch.equal(model(images, edit=edit), model(images))


def test_values_in_unedited_cells_do_not_matter():
    model, images, edit = tiny_model(), torch.randn(2, 3, 32, 32), random_edit()
    other = AttentionEdit(torch.where(edit.edited, edit.value, 0.123), edit.edited)
    assert torch.equal(model(images, edit=edit), model(images, edit=other))


def test_sigmoid_attention_as_its_own_edit_is_the_identity():
    """logit(sigmoid(x)) = x: writing back what the network has leaves the decision where it was."""
    model, images = tiny_model(), torch.randn(2, 3, 32, 32)
    plain, logits = model.forward_with_attention(images, layers=[1])
    value = logits[1][:, :, 0, 1:].sigmoid().unflatten(-1, (4, 4))
    inside = (value > 1e-3) & (value < 1 - 1e-3)
    edit = AttentionEdit(value, inside, layers=[1], queries="cls")
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(model(images, edit=edit), plain, atol=1e-4, rtol=1e-4)


def test_zero_removes_and_one_dominates():
    model = tiny_model()
    with torch.no_grad():
        model.blocks[-1].attn.qkv.weight[: 2 * 24].zero_()  # all ordinary logits are 0
        model.blocks[-1].attn.qkv.bias.zero_()
    edited = torch.zeros(1, 4, 4, dtype=torch.bool)
    edited[0, 1, 2] = True
    for value, low, high in ((0.0, 0.0, 1e-5), (1.0, 0.99, 1.0)):
        edit = AttentionEdit(torch.full((1, 4, 4), value), edited, layers="last")
        row = materialised(model, torch.randn(1, 3, 32, 32), edit)[2][2][0, 0, 0]
        assert low <= row[1 + 6] / (row[1] if value == 0 else 1) <= high


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("queries", ["cls", "all"])
def test_low_precision_follows_float32(dtype, queries):
    model, images, edit = tiny_model(), torch.randn(2, 3, 32, 32), random_edit(queries=queries)
    expected = model(images, edit=edit)
    with torch.autocast("cpu", dtype):
        got = model(images, edit=edit)
    plain_error = (model(images) - torch.autocast("cpu", dtype)(model)(images)).abs().max()
    assert (got - expected).abs().max() < 4 * plain_error + 0.02


# ---------------------------------------------------------------- training machinery


@pytest.mark.parametrize("qk_norm", [False, True])
def test_last_block_for_the_class_token_alone_equals_in_full(monkeypatch, qk_norm):
    model, images = tiny_model(qk_norm=qk_norm).double(), torch.randn(2, 3, 32, 32).double()
    edit = random_edit()

    def everything():
        """Answers, attention logits of rows the head does not read, and the gradients through both."""
        out, logits = model.forward_with_attention(images, edit, layers="last", queries=[0, 5, 3])
        model.zero_grad()
        (out.square().sum() + logits[len(model.blocks) - 1].square().sum()).backward()
        recorded = [out, logits[len(model.blocks) - 1], *(p.grad.clone() for p in model.parameters())]
        return [model(images), model(images, edit=edit), *grads(model, images).values(), *recorded]

    assert model._head_rows() == 1
    short = everything()
    monkeypatch.setattr(type(model), "_head_rows", lambda self: None)
    for a, b in zip(short, everything(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    "edit", [None, random_edit(), random_edit(queries="cls")], ids=["plain", "all", "cls"]
)
def test_gradient_checkpointing_equals(edit):
    images, results = torch.randn(2, 3, 32, 32), []
    for checkpointing in (False, True):
        model = tiny_model().train()
        model.set_grad_checkpointing(checkpointing)
        out, logits = model.forward_with_attention(images, edit=edit, layers="all", queries=[0, 3])
        (out.sum() + sum(x.square().mean() for x in logits.values())).backward()
        results.append([out, *logits.values(), *(p.grad for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("queries", ["cls", "all"])
def test_compile_equals_eager(queries):
    torch._dynamo.reset()
    model, images, edit = tiny_model(), torch.randn(2, 3, 32, 32), random_edit(queries=queries)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images))
    torch.testing.assert_close(compiled(images, edit=edit), model(images, edit=edit))
    compiled = torch.compile(model.forward_with_attention, backend="aot_eager", fullgraph=True)
    a, b = (f(images, edit=edit, layers="all") for f in (compiled, model.forward_with_attention))
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("queries", ["cls", "all"])
def test_no_tensor_of_n_by_n_is_kept_for_an_edit(queries):
    model, images = tiny_model(img_size=96).train(), torch.randn(1, 3, 96, 96)
    N, saved = 145, []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape) or t, lambda t: t):
        model(images, edit=random_edit(1, (12, 12), queries=queries))
    assert saved
    assert not [s for s in saved if len(s) >= 2 and s[-1] == N and s[-2] == N]


def test_layers_and_rows_of_forward_with_attention():
    model, images = tiny_model(reg_tokens=1), torch.randn(2, 3, 32, 32)
    everything = model.forward_with_attention(images, layers="all", queries="all")[1]
    assert {i: tuple(a.shape) for i, a in everything.items()} == dict.fromkeys(range(3), (2, 2, 18, 18))
    last = model.forward_with_attention(images)[1]
    assert list(last) == [2]
    assert last[2].shape == (2, 2, 1, 18)
    torch.testing.assert_close(last[2], everything[2][:, :, :1])
    some = model.forward_with_attention(images, layers=[0, -1], queries=[5, 0])[1]
    assert list(some) == [0, 2]
    torch.testing.assert_close(some[2], everything[2][:, :, [5, 0]])


# ---------------------------------------------------------------- bad input

ok, mask = torch.full((2, 4, 4), 0.5), torch.ones(2, 4, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    "edit, says",
    [
        (random_edit(grid=(3, 4)), r"grid is \(3, 4\).*\(4, 4\).*resize"),
        (random_edit(batch=3), "for 3 images, the batch has 2"),
        (random_edit(layers=[0, 3]), "layer 3.*0 to 2"),
        (ok, r"an AttentionEdit\(value, edited\), not Tensor"),
        (random_edit(per_head=3), "3 heads, the model has 2"),
        (AttentionEdit(ok, mask, heads=[2]), "head 2.*0 to 1"),
    ],
)
def test_edits_that_do_not_fit_the_model_are_refused(edit, says):
    with pytest.raises(UserError, match=says):
        tiny_model()(torch.randn(2, 3, 32, 32), edit=edit)


def test_other_bad_requests_are_refused():
    images = torch.randn(2, 3, 32, 32)
    model = tiny_model(class_token=False, global_pool="avg")
    with pytest.raises(UserError, match="class token"):
        model(images, edit=random_edit(queries="cls"))
    with pytest.raises(UserError, match="class token"):
        model.forward_with_attention(images)
    with pytest.raises(UserError, match=r"'cls', 'all'.*'rows'"):
        tiny_model().forward_with_attention(images, queries="rows")
    for queries in ([99], torch.tensor([0, 17]), [-18]):
        with pytest.raises(UserError, match="query rows 0 to 16"):
            tiny_model().forward_with_attention(images, queries=queries)
    with pytest.raises(UserError, match="patch_drop_rate"):
        tiny_model(patch_drop_rate=0.5).train()(images, edit=random_edit())
    with pytest.raises(UserError, match="attn_mask"):
        tiny_model()(images, attn_mask=torch.zeros(17, 17), edit=random_edit())


@pytest.mark.parametrize("one", [np.int64, torch.tensor, int])
def test_indices_are_of_any_integer_type(one):
    model, images = tiny_model(), torch.randn(2, 3, 32, 32)
    plain = model(images, edit=AttentionEdit(ok, mask, layers=[0, 2], heads=[1]))
    for layers in ([one(0), one(-1)], (one(2), one(0))):
        assert torch.equal(model(images, edit=AttentionEdit(ok, mask, layers, [one(1)])), plain)
    last = model(images, edit=AttentionEdit(ok, mask, one(2)))
    assert torch.equal(last, model(images, edit=AttentionEdit(ok, mask, "last")))
    logits = model.forward_with_attention(images, layers=one(1), queries=[one(3), one(0)])[1]
    every = model.forward_with_attention(images, layers=[1], queries="all")[1]
    torch.testing.assert_close(logits[1], every[1][:, :, [3, 0]])


# ---------------------------------------------------------------- edits on another grid
