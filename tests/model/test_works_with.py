"""What a model is used inside of: the outputs, and the gradients in training, stay those of the model itself.

Each row of the table "Works with" in docs/model.md is one of USES.
"""

import copy
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from helpers.reference import random_edit, tiny_model
from timm.utils import ModelEmaV3
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from sigmoid_vit import AttentionEdit, create_model

SIZES = dict(img_size=32, embed_dim=24, depth=2, num_heads=2, num_classes=5)
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def a_vit():
    return tiny_model(depth=2)


def a_rope_vit():
    torch.manual_seed(0)
    model = create_model("vit_small_patch16_dinov3", patch_size=8, **SIZES).eval()
    with torch.no_grad():  # timm's own start is close to 0: everything would be equal
        for parameter in model.parameters():
            parameter.normal_(std=0.3) if parameter.ndim > 1 else parameter.fill_(1)
    return model


class Erase(nn.Module):
    """The model with the tensors of an edit as inputs, as exporting needs it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, value, edited):
        return self.model(images, edit=AttentionEdit(value, edited))


@contextmanager
def one_process(tmp_path):
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def compiled(model, tmp_path):
    torch._dynamo.reset()
    return torch.compile(model, backend="aot_eager", fullgraph=True)


def checkpointed(model, tmp_path):
    model.set_grad_checkpointing()
    return model


def accelerated(model, tmp_path):
    return Accelerator(cpu=True).prepare(model)


def averaged(model, tmp_path):
    return ModelEmaV3(model).module


USES = {
    "`torch.compile`": compiled,
    "gradient checkpointing": checkpointed,
    "DDP": lambda model, _: DistributedDataParallel(model),
    "FSDP2 (`fully_shard`)": lambda model, _: fully_shard(model) or model,
    "Accelerate": accelerated,
    "timm's `ModelEmaV3`": averaged,
    "`copy.deepcopy`": lambda model, _: copy.deepcopy(model),
}


def test_the_page_has_a_row_for_each():
    page = (Path(__file__).parents[2] / "docs/model.md").read_text(encoding="utf-8")
    for name in USES:
        assert f"| {name} | yes" in page


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


@pytest.mark.parametrize("make", [a_vit, a_rope_vit])
@pytest.mark.parametrize("name", USES)
def test_it_works_in(name, make, tmp_path):
    model = make()
    edit = random_edit(2, model.grid((32, 32)))

    def results(run):
        found = []
        for given in (None, edit):
            out = run(IMAGES, edit=given)
            out.square().sum().backward()
            found.append(out)
        module = getattr(run, "module", run)
        grads = [whole(p.grad) for p in module.parameters() if p.grad is not None]
        with torch.no_grad():
            return [*found, *grads, run(IMAGES), run(IMAGES, edit=edit)]

    for training in (False, True):
        expected = results(make().train(training))
        with one_process(tmp_path):
            found = results(USES[name](make().train(training), tmp_path))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [a_vit, a_rope_vit])
def test_it_can_be_exported(make):
    model = make()
    edit = random_edit(2, model.grid((32, 32)))
    plain = torch.export.export(model, (IMAGES,)).module()
    torch.testing.assert_close(plain(IMAGES), model(IMAGES))
    edited = torch.export.export(Erase(model), (IMAGES, edit.value, edit.edited)).module()
    torch.testing.assert_close(edited(IMAGES, edit.value, edit.edited), model(IMAGES, edit=edit))


@pytest.mark.parametrize("make", [a_vit, a_rope_vit])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_works_in_low_precision(make, dtype):
    """Under autocast, and with weights of that precision: as far from float32 as the unedited network is."""
    model, low = make(), make().to(dtype)
    edit = random_edit(2, model.grid((32, 32)))
    with torch.no_grad(), torch.autocast("cpu", dtype):
        automatic = model(IMAGES), model(IMAGES, edit=edit)
    with torch.no_grad():
        cast = low(IMAGES.to(dtype)), low(IMAGES.to(dtype), edit=edit)
        exact = model(IMAGES), model(IMAGES, edit=edit)
    for plain, edited in (automatic, cast):
        own = (plain - exact[0]).abs().max()
        assert (edited - exact[1]).abs().max() < 4 * own + 0.02


@pytest.mark.parametrize("make", [a_vit, a_rope_vit])
def test_it_can_be_quantised(make):
    """Dynamic quantisation replaces the linear layers: an erased patch stays erased."""
    model = torch.ao.quantization.quantize_dynamic(make(), {nn.Linear}, dtype=torch.qint8)
    edited = torch.zeros(1, *model.grid((32, 32)), dtype=torch.bool)
    edited[0, 1, 2] = True
    edit = AttentionEdit(torch.zeros(edited.shape), edited)
    other = IMAGES.clone()
    other[..., 8:16, 16:24] = 2
    moved = (model(other) - model(IMAGES)).abs().max()
    leak = (model(other, edit=edit) - model(IMAGES, edit=edit)).abs().max()
    assert moved > 0
    # int8 scales follow the largest value of a whole tensor, the erased patch's among them
    assert leak < 0.2 * moved
