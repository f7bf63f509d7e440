"""Weights of a small model that are all random, and ways to compare them."""

import huggingface_hub
import pytest
import timm
import torch

TINY = "test_vit"  # timm's own small ViT: 6 blocks, 64 channels, 160 x 160 pixels, patch 16


def random_state(model_name=TINY, seed=0, **kwargs):
    """A state dict in timm's layout whose every tensor is random, so that no two entries can be confused."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = timm.create_model(model_name, **kwargs).state_dict()
    return {key: torch.randn(value.shape, generator=generator) for key, value in shapes.items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def without(state, *keys):
    return {key: value for key, value in state.items() if key not in keys}


def files_below(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def offline(monkeypatch):
    """Nothing in these tests may reach the network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
