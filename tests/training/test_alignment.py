"""The loss of Step 2: the alignment on paper, what unedited cells contribute, and what is injected."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.reference import random_edit, tiny_model
from helpers.runs import settings
from helpers.step2 import prepared

from sigmoid_vit import UserError
from sigmoid_vit.training.alignment import OBJECT_WEIGHT, HITLLoss, alignment_loss, parse_layers, row_level
from sigmoid_vit.training.loop import ClassificationLoss

NO_CLASS_TOKEN = ["--model_kwargs", "class_token=False", "global_pool=avg"]


def one_row(*logits):
    return {0: torch.tensor(logits)[None, None, None]}  # B, H, Q = 1; the first is the class token's


def cells(*values):
    return torch.tensor(values)[None, None]  # [1, 1, gw]


def test_alignment_losses_on_paper():
    logits, edited = one_row(5.0, 0.0, math.log(3), 7.0), cells(True, True, False)
    value = cells(0.9, 0.25, 0.5)
    own = [0.5, 0.75]
    mse = ((own[0] - 0.9) ** 2 + (own[1] - 0.25) ** 2) / 2
    assert alignment_loss(logits, value, edited, "mse", 1).item() == pytest.approx(mse, rel=1e-5)
    level = np.log(np.exp([5.0, 0.0, math.log(3), 7.0]).mean())
    above = 1 / (1 + np.exp(level - np.array([0.0, math.log(3)])))  # the same above the level of the row
    expected = 0
    for p in (own, above):
        bce = [-(t * math.log(q) + (1 - t) * math.log(1 - q)) for q, t in zip(p, (0.9, 0.25), strict=True)]
        expected += (OBJECT_WEIGHT * bce[0] + bce[1]) / 2 / 2
    assert alignment_loss(logits, value, edited, "bce", 1).item() == pytest.approx(expected, rel=1e-5)
    row = np.exp([5.0, math.log(9), math.log(1 / 3), 7.0])
    network = np.exp([5.0, 0.0, math.log(3), 7.0])
    row, network = row / row.sum(), network / network.sum()
    kl = sum(row[j] * math.log(row[j] / network[j]) for j in (1, 2)) / 2
    assert alignment_loss(logits, value, edited, "kl", 1).item() == pytest.approx(kl, rel=1e-4)


@pytest.mark.parametrize("kind", ["bce", "mse", "kl"])
def test_unedited_cells_and_images_contribute_nothing(kind):
    logits = {i: torch.randn(3, 2, 4, 17, requires_grad=True) for i in range(2)}
    edit = random_edit(3)
    edit.edited[1] = False
    loss = alignment_loss(logits, edit.value, edit.edited, kind, 1)
    assert loss[1] == 0
    assert (loss[[0, 2]] > 0).all()
    loss.sum().backward()
    if kind == "mse":  # the others are of whole softmax rows, which couple their cells
        touched = logits[0].grad.abs().sum((1, 2))[:, 1:] > 0
        assert torch.equal(touched, edit.edited.flatten(1))
    assert not logits[1].grad[1].any()
    other = torch.where(edit.edited, edit.value, 0.77)
    assert torch.equal(alignment_loss(logits, other, edit.edited, kind, 1), loss)


@pytest.mark.parametrize("kind", ["bce", "mse", "kl"])
def test_a_row_that_takes_no_part_in_a_layer_does_not_count(kind):
    """CaiT: the class token in blocks of the patches, the patches in blocks of the class token."""
    logits, edit = torch.randn(2, 2, 3, 17, requires_grad=True), random_edit(2)
    absent = torch.full((2, 2, 1, 17), -torch.inf)
    absent[..., 0] = 0

    def loss(layer):
        found = alignment_loss({0: layer}, edit.value, edit.edited, kind, 1)
        return [found, *torch.autograd.grad(found.sum(), logits)]

    torch.testing.assert_close(loss(torch.cat((absent, logits), dim=2)), loss(logits))


def test_lowering_a_whole_row_is_no_way_out():
    """Softmax ignores a shift of all logits, so half of the loss does: shares must move for it to fall."""
    logits, edited, erase = torch.randn(2, 2, 3, 17), random_edit().edited, torch.zeros(2, 4, 4)

    def loss(logits):
        return alignment_loss({0: logits}, erase, edited, "bce", 1)

    cells = F.pad(edited.flatten(1), (1, 0))[:, None, None]
    whole_rows = torch.stack([loss(logits - shift) for shift in range(10)]).amin(0)
    erased_cells = torch.stack([loss(logits - shift * cells) for shift in range(10)]).amin(0)
    assert (whole_rows > 2 * erased_cells).all()
    torch.testing.assert_close(row_level(logits - 20), row_level(logits) - 20)
    torch.testing.assert_close(row_level(torch.full((1, 9), 0.7)), torch.full((1, 1), 0.7))


@pytest.mark.parametrize("kind", ["bce", "mse", "kl"])
def test_alignment_moves_attention_to_the_edit(kind):
    model, images = tiny_model().train(), torch.randn(2, 3, 32, 32)
    edit = random_edit(share=1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def distance():
        logits = model.forward_with_attention(images)[1][2]
        return (logits[:, :, 0, 1:].sigmoid() - edit.value.flatten(1)[:, None]).abs().mean().item()

    before = distance()
    for _ in range(60):
        logits = model.forward_with_attention(images)[1]
        alignment_loss(logits, edit.value, edit.edited, kind, 1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert distance() < (0.9 if kind == "kl" else 0.5) * before


def test_a_batch_without_edits_is_plain_training(tmp_path):
    model, images, labels = tiny_model(), torch.randn(2, 3, 32, 32), torch.tensor([1, 3])
    value, edited = torch.zeros(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)
    for inject in (False, True):
        loss, class_logits = HITLLoss(model, settings(tmp_path), inject)(images, labels, value, edited)
        expected = ClassificationLoss(model)(images, labels)
        torch.testing.assert_close((loss, class_logits), expected)


def test_injection_takes_erased_cells_away_and_keeps_the_rest(tmp_path):
    model, images, labels = tiny_model(), torch.randn(2, 3, 32, 32), torch.tensor([1, 3])
    edit = random_edit(share=1.0)
    edit.value[:] = torch.where(edit.value < 0.5, 0.0, 0.9)
    got = HITLLoss(model, settings(tmp_path), inject=True)(images, labels, edit.value, edit.edited)[1]
    edit.edited &= edit.value < 0.5
    torch.testing.assert_close(got, model(images, edit=edit))


def test_the_whole_image_is_to_be_answered_as_under_its_edit(tmp_path):
    """KL to the whole image's answer; the edited pass is the teacher, and gets no gradient from it."""
    model, images, labels = tiny_model(), torch.randn(2, 3, 32, 32), torch.tensor([1, 3])
    edit = random_edit(share=0.5)
    edit.value[:] = 0

    def loss_of(inject=True, **changes):
        loss = HITLLoss(model, replace(settings(tmp_path), **changes), inject)
        return loss, lambda: loss(images, labels, edit.value, edit.edited)[0]

    both, plain = loss_of(consistency=0.7)[1](), loss_of(consistency=0.0)[1]()
    with torch.no_grad():
        under, whole = (model(images, edit=e).softmax(1) for e in (edit, None))
    expected = (under * (under.log() - whole.log())).sum(1)
    assert (expected > 1e-4).all()
    torch.testing.assert_close(both - plain, 0.7 * expected)
    (both - plain).sum().backward()
    got = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    (0.7 * F.kl_div(model(images).log_softmax(1), under, reduction="sum")).backward()
    for own, parameter in zip(got, model.parameters(), strict=True):
        torch.testing.assert_close(own, parameter.grad, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(loss_of(False, consistency=0.7)[1](), loss_of(False, consistency=0.0)[1]())


def test_half_of_the_updates_see_the_whole_images_and_the_seed_says_which(tmp_path):
    loss = HITLLoss(tiny_model(), settings(tmp_path), inject=True)

    def drawn(seed):
        loss.seed(seed)
        return loss.sees_whole, loss.generator.get_state().tolist()

    assert [drawn(seed) for seed in range(5)] == [drawn(seed) for seed in range(5)]
    assert 70 < sum(drawn(seed)[0] for seed in range(200)) < 130


def test_layers_are_read():
    assert parse_layers("all") == "all"
    assert parse_layers("8,9") == [8, 9]
    with pytest.raises(UserError, match="EDIT_LAYERS is 'first'"):
        parse_layers("first")


@pytest.mark.parametrize("options", [["foo"], ["7"], ["all", "--edit_queries", "cls", *NO_CLASS_TOKEN]])
def test_a_scope_the_network_lacks_is_refused_before_anything_is_written(ink_store, tmp_path, options):
    path, stored = tmp_path / "edits.sqlite", Path(ink_store).read_bytes()
    path.write_bytes(stored)
    options = ["--edits", str(path), "--propagate", "true", "--edit_layers", *options]
    with pytest.raises(UserError, match=f"EDIT_LAYERS(=| is '){options[5]}"):
        prepared(tmp_path, *options)
    assert path.read_bytes() == stored
    assert not (tmp_path / "run").exists()
