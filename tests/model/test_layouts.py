"""Weights of every library come in through one reader, and are the same weights."""

import argparse
import re

import pytest
import safetensors.torch
import timm
import torch
from helpers.weights import TINY, random_state, same, without

from sigmoid_vit import create_model
from sigmoid_vit.errors import UserError
from sigmoid_vit.model.checkpoints import load_into
from sigmoid_vit.model.weights import import_weights

HEAD = ("head.weight", "head.bias")
STATE = random_state(seed=3)
BARE = without(STATE, *HEAD)
OTHER = random_state(seed=4)


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def chunked(state):
    return {
        re.sub(r"^blocks\.(\d+)", lambda m: f"blocks.{int(m[1]) // 3}.{m[1]}", k): v for k, v in state.items()
    }


DECODER = {"decoder_embed.weight": torch.zeros(4, 64), "decoder_blocks.0.norm1.bias": torch.zeros(4)}
LAYOUTS = {  # name -> file, its weights, where they are said to be, what is said not to be used
    "plain": (STATE, ""),
    "DataParallel": ({"state_dict": prefixed(STATE, "module.")}, "state_dict.module."),
    "torch.compile": (prefixed(STATE, "_orig_mod."), "_orig_mod."),
    "Lightning": (
        {"state_dict": prefixed(STATE, "model."), "epoch": 3, "hyper_parameters": {"lr": 1e-4}},
        "state_dict.model.",
    ),
    "timm with EMA": ({"state_dict": OTHER, "state_dict_ema": STATE}, "state_dict_ema.", "state_dict"),
    "torch's AveragedModel": (
        prefixed(STATE, "module.") | {"n_averaged": torch.tensor(3)},
        "module.",
        "n_averaged",
    ),
    "DINO": (
        {
            "student": prefixed(without(OTHER, *HEAD), "module.backbone."),
            "teacher": prefixed(BARE, "backbone.") | {"head.mlp.0.weight": torch.zeros(4, 64)},
            "args": argparse.Namespace(arch="vit"),
        },
        "teacher.backbone.",
        "student",
    ),
    "DINOv2": ({"model": prefixed(BARE, "teacher.backbone.")}, "model.teacher.backbone."),
    "DINOv2 in chunks": ({"teacher": prefixed(chunked(BARE), "backbone.")}, "teacher.backbone."),
    "MAE": ({"model": BARE | DECODER | {"mask_token": torch.zeros(1, 1, 4)}}, "model.", "decoder_embed"),
    "MoCo v3": (
        {
            "state_dict": prefixed(without(OTHER, *HEAD), "module.momentum_encoder.")
            | prefixed(BARE, "module.base_encoder.")
        },
        "state_dict.module.base_encoder.",
        "state_dict.module.momentum_encoder",
    ),
    "half": ({key: value.bfloat16() for key, value in STATE.items()}, ""),
}


FILES = [(name, ".pth") for name in LAYOUTS] + [
    (name, ".safetensors")  # which holds tensors alone
    for name, (content, *_) in LAYOUTS.items()
    if all(isinstance(value, torch.Tensor) for value in content.values())
]


@pytest.mark.parametrize("name, suffix", FILES)
def test_the_same_weights_come_in(tmp_path, offline, name, suffix):
    content, where, *left = LAYOUTS[name]
    path = tmp_path / f"file{suffix}"
    if suffix == ".pth":
        torch.save(content, path)
    else:
        safetensors.torch.save_file({key: value.contiguous() for key, value in content.items()}, path)
    model = timm.create_model(TINY, num_classes=1000)
    report = load_into(model, path)
    kept = {key: STATE[key] for key in STATE if not (report.head_new and key in HEAD)}
    if name == "half":
        kept = {key: value.bfloat16().float() for key, value in kept.items()}
    assert all(torch.equal(model.state_dict()[key], value) for key, value in kept.items())
    assert report.matched == len(kept)
    assert (report.where, report.resampled) == (where, ())
    assert set(left) <= set(report.left)
    assert f"not used: {left[0]}" in str(report) if left else "not used" not in str(report)


def test_create_model_reads_them_as_well(tmp_path):
    torch.save(LAYOUTS["Lightning"][0], tmp_path / "last.ckpt")
    model = create_model(TINY, checkpoint_path=str(tmp_path / "last.ckpt"))
    assert same(model.state_dict(), STATE)


def test_a_file_without_head_is_for_training_and_says_so(tmp_path, offline):
    torch.save({"model": BARE}, tmp_path / "bare.pth")
    with pytest.raises(UserError, match=r"PRETRAINED=.*bare\.pth takes it"):
        import_weights(TINY, tmp_path / "bare.pth", tmp_path / "models")
    assert load_into(timm.create_model(TINY), tmp_path / "bare.pth").head_new


def test_a_deeper_network_is_not_cut(tmp_path):
    torch.save({"model": random_state(depth=7)}, tmp_path / "deep.pth")
    with pytest.raises(UserError, match=r"unexpected \(blocks\.6\."):
        load_into(timm.create_model(TINY), tmp_path / "deep.pth")


def test_an_unknown_layout_shows_its_keys(tmp_path):
    torch.save({"tower.stem.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"keys missing \(cls_token, .*unexpected \(tower\.stem\.weight\)"):
        load_into(timm.create_model(TINY), tmp_path / "other.pth")


OLD_NAMES = {
    "layers.": "encoder.layer.",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def in_old_names(state):
    """The keys of transformers' ViT as version 4 wrote them."""
    for new, old in OLD_NAMES.items():
        state = {key.replace(new, old): value for key, value in state.items()}
    return state


SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8)
OURS = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2)


@pytest.mark.parametrize("kind", ["ViT", "DeiT", "Dinov2", "Dinov2WithRegisters", "DINOv3ViT", "CLIPVision"])
def test_a_model_of_transformers_computes_the_same(tmp_path, kind):
    """Its checkpoint, loaded into timm's network of that kind, has its features."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = SIZES | {"intermediate_size": 128}
    config = getattr(transformers, f"{kind}Config")(
        **sizes, **({"num_register_tokens": 4} if "DINOv3" in kind else {})
    )
    theirs = getattr(transformers, f"{kind}Model")(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    safetensors.torch.save_file(
        {k: v.contiguous() for k, v in theirs.state_dict().items()}, tmp_path / "m.safetensors"
    )
    name = {
        "ViT": "vit_tiny_patch16_224",
        "DeiT": "deit_tiny_distilled_patch16_224",
        "Dinov2": "vit_small_patch14_dinov2",
        "Dinov2WithRegisters": "vit_small_patch14_reg4_dinov2",
        "DINOv3ViT": "vit_small_patch16_dinov3_qkvb",
        "CLIPVision": "vit_base_patch16_clip_quickgelu_224",
    }[kind]
    model = create_model(name, **OURS).eval()
    report = load_into(model, tmp_path / "m.safetensors")
    if kind == "ViT":
        torch.save(prefixed(in_old_names(theirs.state_dict()), "vit."), tmp_path / "old.bin")
        old = create_model(name, **OURS)
        assert load_into(old, tmp_path / "old.bin").matched == report.matched
        assert all(
            torch.equal(old.state_dict()[k], v) for k, v in model.state_dict().items() if k not in HEAD
        )
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = theirs(pixel_values=images).last_hidden_state
        found = model.forward_features(images)
    if kind == "CLIPVision":  # timm's normalises every token
        expected = getattr(theirs, "vision_model", theirs).post_layernorm(expected)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
