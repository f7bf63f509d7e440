"""Learning from edits: the loss on paper, what unedited images contribute, the guard, and that it works."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import random_edit, tiny_model
from test_training import curve, settings, train

from sigmoid_vit import UserError
from sigmoid_vit.data import ink_grid, load_data
from sigmoid_vit.edit_maps import EditMaps, load_edits
from sigmoid_vit.hitl import (
    OBJECT_WEIGHT,
    HITLLoss,
    alignment_loss,
    being_edited_is_a_cue,
    make_plan,
    parse_layers,
)
from sigmoid_vit.loop import ClassificationLoss
from sigmoid_vit.store import EditStore, StoredEdit
from sigmoid_vit.training import Trainer


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
    bce = [-(t * math.log(p) + (1 - t) * math.log(1 - p)) for p, t in zip(own, (0.9, 0.25), strict=True)]
    expected = (OBJECT_WEIGHT * bce[0] + bce[1]) / 2
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
    assert loss[1] == 0 and (loss[[0, 2]] > 0).all()
    loss.sum().backward()
    if kind != "kl":  # a softmax row couples its cells
        touched = logits[0].grad.abs().sum((1, 2))[:, 1:] > 0
        assert torch.equal(touched, edit.edited.flatten(1))
    assert not logits[1].grad[1].any()
    other = torch.where(edit.edited, edit.value, 0.77)
    assert torch.equal(alignment_loss(logits, other, edit.edited, kind, 1), loss)


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


def test_shuffled_edits_stay_with_the_edited_images_and_move():
    edited = torch.zeros(9, 2, 2, dtype=torch.bool)
    edited[[0, 2, 3, 7]] = True
    value = torch.arange(9.0)[:, None, None].expand(9, 2, 2) / 10
    maps = EditMaps(value, edited)
    moved = maps.shuffled(0)
    assert np.array_equal(moved.has_edit, maps.has_edit)
    chosen = moved.value[[0, 2, 3, 7], 0, 0]
    assert sorted(chosen.tolist()) == pytest.approx([0.0, 0.2, 0.3, 0.7])
    assert (chosen != value[[0, 2, 3, 7], 0, 0]).all()


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=40))
def test_the_cue_is_a_share(images):
    labels, has_edit = (np.array(x) for x in zip(*images, strict=True))
    assert 0 <= being_edited_is_a_cue(labels, has_edit) <= 1 + 1e-9
    assert being_edited_is_a_cue(labels, np.ones(len(labels), dtype=bool)) == 0


def test_the_guard(tmp_path):
    labels = np.repeat([0, 1, 2], 10)
    spread, one_class = np.arange(30) % 2 == 0, labels == 1
    assert being_edited_is_a_cue(labels, spread) == pytest.approx(0)
    assert being_edited_is_a_cue(labels, one_class) == pytest.approx(1)
    s = settings(tmp_path)
    assert make_plan(s, labels, spread).inject and len(make_plan(s, labels, spread).images) == 15
    safe = make_plan(s, labels, one_class)  # dropping would lose two classes
    assert not safe.inject and len(safe.images) == 30 and "goes with the class" in safe.says
    forced = make_plan(settings(tmp_path, "--inject", "true"), labels, one_class)
    assert forced.inject and "WARNING" in forced.says
    everybody = make_plan(s, labels, np.ones(30, dtype=bool))
    assert everybody.inject and len(everybody.images) == 30
    kept = make_plan(settings(tmp_path, "--unedited", "train"), labels, spread)
    assert kept.inject and len(kept.images) == 30
    assert not make_plan(settings(tmp_path, "--hitl", "paper"), labels, spread).inject


def test_layers_are_read():
    assert parse_layers("all") == "all" and parse_layers("8,9") == [8, 9]
    with pytest.raises(UserError, match="EDIT_LAYERS is 'first'"):
        parse_layers("first")


# ---------------------------------------------------------------- training


@pytest.fixture(scope="module")
def ink_store(tmp_path_factory):
    """Edits of every train digit: its ink shall be looked at, everything else not."""
    path = tmp_path_factory.mktemp("edits") / "edits.sqlite"
    part = load_data("digits_decoy", val_fraction=0).train
    edits = [
        StoredEdit(
            image_id=part.ids[i],
            image_sha256=part.sha256(i),
            value=np.where(ink, 0.9, 0.0).astype(np.float32),
            edited=np.ones((6, 6), dtype=bool),
            author="ink masks",
        )
        for i, ink in enumerate(ink_grid(part))
    ]
    with EditStore(path) as store:
        store.save_many(edits)
    return path


def test_edits_of_other_images_are_counted_and_not_used(ink_store, tmp_path):
    part = load_data("digits_decoy", val_fraction=0.1).train
    maps, account = load_edits(str(ink_store), part, (6, 6))
    assert account["used"] == 1167 and account["of unknown images"] == 130
    assert not any(account[k] for k in account if k not in ("used", "of unknown images"))
    assert maps.has_edit.all()
    part.images[5] += 1
    maps, account = load_edits(str(ink_store), part, (3, 3))
    assert account["of changed images"] == 1 and account["resampled"] == 1166
    assert not maps.has_edit[5] and maps.value.shape == (1167, 3, 3)
    test = load_data("digits_decoy").test()
    with pytest.raises(UserError, match="holds no edit of an image in test"):
        load_edits(str(ink_store), test, (6, 6))


def test_geometry_moves_maps_with_images(ink_store, tmp_path):
    s = settings(tmp_path, "--edits", str(ink_store), "--hflip", "1", "--crop_scale", "1")
    trainer = Trainer(s)
    index = torch.arange(4)
    images, _, _ = next(trainer.train.batches([index.numpy()]))
    _, _, value, edited = trainer.loop.moved(images, index, index, epoch=0)
    assert torch.equal(edited, trainer.edits.edited[:4].flip(-1))
    torch.testing.assert_close(value, trainer.edits.value[:4].flip(-1))


def test_a_curve_with_edits_does_not_depend_on_the_split_of_a_batch(ink_store, tmp_path):
    options = ["--edits", str(ink_store), "--opt", "sgd", "--lr", "0.05", "--edit_queries", "cls"]
    whole = curve(train(tmp_path / "whole", *options))
    for a, b in zip(curve(train(tmp_path / "parts", *options, "--grad_accum", "3")), whole, strict=True):
        assert a == pytest.approx(b, abs=2e-4)


def test_full_edits_change_the_decision_and_controls_do_not(ink_store, tmp_path):
    """A short version of the proof: edits free the network from the squares; without them it stays fooled."""
    from sigmoid_vit.evaluation import evaluate_run

    first = train(tmp_path, "--epochs", "10")
    options = ["--first_step", str(first.folder), "--edits", str(ink_store), "--epochs", "14"]
    scores = {}
    for name, extra in {"full": [], "no_edits": ["--control", "no_edits"]}.items():
        Trainer(settings(tmp_path, *options, *extra, "--runs_name", name)).fit()
        scores[name] = evaluate_run(tmp_path / name, "test")["top1"]
        # the validation part shares the cue: its best epoch would be one that is still fooled
        assert torch.load(tmp_path / name / "best.pt", weights_only=True)["epoch"] == 14
    assert scores["no_edits"] < 0.25 < 0.5 < scores["full"], scores
