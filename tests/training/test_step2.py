"""Learning from edits: the loss on paper, what unedited images contribute, the guard, and that it works."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.reference import random_edit, tiny_model
from helpers.runs import curve, settings, train
from hypothesis import given
from hypothesis import strategies as st

from sigmoid_vit import UserError
from sigmoid_vit.data import ink_grid, load_data
from sigmoid_vit.edits.maps import EditMaps, load_edits
from sigmoid_vit.edits.store import EditStore, StoredEdit
from sigmoid_vit.files import write_json
from sigmoid_vit.runs.folder import open_data
from sigmoid_vit.training.alignment import OBJECT_WEIGHT, HITLLoss, alignment_loss, parse_layers
from sigmoid_vit.training.loop import ClassificationLoss
from sigmoid_vit.training.plan import being_edited_is_a_cue, make_plan
from sigmoid_vit.training.trainer import Trainer

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
    maps.predicted[7] = True
    moved = maps.shuffled(0)
    assert moved.predicted[7] and not moved.predicted[:7].any()
    with pytest.raises(UserError, match="at least two edited training images"):
        maps.subset([0, 1]).shuffled(0)
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


def test_a_few_images_of_one_class_without_an_edit_are_no_cue(tmp_path):
    """24 digits of one class, trained on without injection, taught "not injected = that class"."""
    labels = np.repeat(np.arange(10), 117)
    has_edit = np.ones(len(labels), dtype=bool)
    has_edit[:24] = False
    assert being_edited_is_a_cue(labels, has_edit) < 0.5  # too few for the association over all images
    s = settings(tmp_path, "--unedited", "train")
    plan = make_plan(s, labels, has_edit)
    assert plan.inject and np.array_equal(plan.images, np.flatnonzero(has_edit))
    assert "24 without an edit are left out" in plan.says
    forced = make_plan(settings(tmp_path, "--unedited", "train", "--inject", "true"), labels, has_edit)
    assert forced.inject and len(forced.images) == len(labels) and "WARNING" in forced.says
    most = ~has_edit | (labels > 0)  # now most of class 0 is without an edit
    safe = make_plan(s, labels, most)
    assert not safe.inject and len(safe.images) == len(labels) and "goes with the class" in safe.says
    two = np.repeat([0, 1], [60, 40])  # of two classes as well
    assert len(make_plan(s, two, np.arange(100) >= 15).images) == 85
    for scattered in (
        np.arange(len(labels)) % 50 > 0,
        np.arange(len(labels)) > 0,
        np.arange(len(labels)) < 2,
    ):
        kept = make_plan(s, labels, scattered)  # a handful is always uneven
        assert kept.inject and len(kept.images) == len(labels)


def test_a_class_that_nobody_edited_is_not_told_by_injection(tmp_path):
    """Also where the edits are too few to go with the class: none of its images would ever be injected."""
    labels, has_edit = np.repeat(np.arange(10), 117), np.zeros(1170, dtype=bool)
    has_edit[::40] = True
    assert make_plan(settings(tmp_path, "--unedited", "train"), labels, has_edit).inject
    has_edit[labels == 3] = False
    plan = make_plan(settings(tmp_path), labels, has_edit)
    assert not plan.inject and len(plan.images) == 1170 and "classes without an edited image: 1" in plan.says


def test_predictions_do_not_hide_the_class_that_nobody_edited(tmp_path):
    labels = np.repeat([0, 1, 2], 10)
    all_edited, by_people = np.ones(30, dtype=bool), labels > 0
    for extra in ([], ["--unedited", "train"]):
        plan = make_plan(settings(tmp_path, *extra), labels, all_edited, all_edited, by_people)
        assert not plan.inject and len(plan.images) == 30 and "goes with the class" in plan.says
    few = np.arange(30) % 5 == 0  # of every class, as they should be
    assert make_plan(settings(tmp_path), labels, all_edited, all_edited, few).inject


def test_edits_that_erase_nothing_inject_nothing(tmp_path):
    labels, nothing = np.repeat([0, 1, 2], 10), np.zeros(30, dtype=bool)
    for inject in ("auto", "true"):
        plan = make_plan(settings(tmp_path, "--inject", inject), labels, ~nothing, nothing)
        assert not plan.inject and "nothing is injected" in plan.says and "WARNING" not in plan.says


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
    account = load_edits(str(ink_store), part, (6, 6), data=load_data("digits_decoy"))[1]
    assert account["of the data set's other images"] == 130 and not account["of unknown images"]
    test = load_data("digits_decoy").test()
    with pytest.raises(UserError, match="holds no edit of an image in test"):
        load_edits(str(ink_store), test, (6, 6))


def test_a_narrower_scope_is_told(tmp_path, capsys):
    part, path = load_data("digits_decoy").train, tmp_path / "edits.sqlite"
    value, edited = np.zeros((6, 6), np.float32), np.ones((6, 6), dtype=bool)
    heads = np.stack([value, value + 1])
    edits = [StoredEdit(part.ids[i], part.sha256(i), value, edited, "mika") for i in range(5)]
    edits[0] = replace(edits[0], layers=[2])
    edits[1] = replace(edits[1], queries="cls")
    edits[2] = replace(edits[2], value=heads, edited=np.stack([edited, edited]))
    edits[3] = replace(edits[3], heads=[1])
    with EditStore(path) as store:
        store.save_many(edits)
    trainer = Trainer(settings(tmp_path, "--edits", str(path)))
    assert trainer.facts["edits"]["drawn for a narrower scope"] == 4
    assert "4 drawn for a narrower scope; EDIT_LAYERS and EDIT_QUERIES decide" in capsys.readouterr().out
    assert trainer.edits.value[2].unique() == 0.5


@pytest.mark.parametrize("options", [["foo"], ["7"], ["all", "--edit_queries", "cls", *NO_CLASS_TOKEN]])
def test_a_scope_the_network_lacks_is_refused_before_anything_is_written(ink_store, tmp_path, options):
    path = tmp_path / "edits.sqlite"
    path.write_bytes(ink_store.read_bytes())
    options = ["--edits", str(path), "--propagate", "true", "--edit_layers", *options]
    with pytest.raises(UserError, match=f"EDIT_LAYERS(=| is '){options[5]}"):
        Trainer(settings(tmp_path, *options)).fit()
    assert path.read_bytes() == ink_store.read_bytes() and not (tmp_path / "run").exists()


def test_the_control_without_edits_trains_on_the_same_images(ink_store, tmp_path, capsys):
    part, path = load_data("digits_decoy").train, tmp_path / "edits.sqlite"
    with EditStore(ink_store, readonly=True) as store:
        edits = store.current_all()
    with EditStore(path) as store:
        store.save_many(edits[image_id] for image_id in part.ids[::4])
    options = ["--edits", str(path), "--epochs", "1"]
    real = Trainer(settings(tmp_path, *options))
    options += ["--control", "no_edits", "--runs_name", "control"]
    control = Trainer(settings(tmp_path, *options))
    assert control.train.part.ids == real.train.part.ids == part.ids[::4]
    assert type(control.loop.loss) is ClassificationLoss and control.loop.maps is None
    assert "control: the 292 images alone, without edits" in capsys.readouterr().out
    control.fit()
    assert not control.run.edits.exists()
    path.unlink()  # resumed, it keeps its images
    assert len(Trainer(settings(tmp_path, *options, "--resume")).train) == 292
    with pytest.raises(UserError, match=r"edits\.sqlite"):
        Trainer(settings(tmp_path, *options, "--runs_name", "other"))


def test_a_second_round_starts_from_the_preset_and_the_first_split(tmp_path):
    paper = settings(tmp_path, "--edits", "e.sqlite", "--hitl", "paper", "--attn_lambda", "7", "--seed", "3")
    first = tmp_path / "first"
    write_json(first / "config.json", {"settings": paper.as_dict()})
    (first / "best.pt").touch()
    options = ["--first_step", str(first), "--edits", "e.sqlite"]
    second = settings(tmp_path, *options, "--hitl", "full", "--seed", "5")
    fresh = settings(tmp_path, "--edits", "e.sqlite")
    for name in ("hitl", "inject", "attn_loss", "attn_lambda", "edit_layers", "edit_queries", "unedited"):
        assert getattr(second, name) == getattr(fresh, name), name
    assert settings(tmp_path, *options) == settings(tmp_path, *options, "--hitl", "full")
    assert settings(tmp_path, *options, "--hitl", "paper").attn_loss == "mse"
    # what Step 1 has learned is never validated on
    assert second.seed == 5 and open_data(second).val.ids == open_data(paper).val.ids
    third = tmp_path / "third"
    write_json(third / "config.json", {"settings": second.as_dict()})
    (third / "best.pt").touch()
    assert settings(tmp_path, "--first_step", str(third), "--edits", "e", "--seed", "7").cut_seed == 3
    assert settings(tmp_path, *options).as_dict()["split_seed"] == -1  # as without the setting
    assert settings(tmp_path, *options, "--val_fraction", "0").val_fraction == 0
    for other in (["--val_fraction", "0.2"], ["--split_seed", "5"]):
        with pytest.raises(UserError, match="has learned the other images"):
            settings(tmp_path, *options, *other)


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
    from sigmoid_vit.evaluation.evaluate import evaluate_run

    first = train(tmp_path, "--epochs", "10")
    options = ["--first_step", str(first.folder), "--edits", str(ink_store), "--epochs", "14"]
    scores = {}
    for name, extra in {"full": [], "no_edits": ["--control", "no_edits"]}.items():
        Trainer(settings(tmp_path, *options, *extra, "--runs_name", name)).fit()
        scores[name] = evaluate_run(tmp_path / name, "test")["top1"]
        # the validation part shares the cue: its best epoch would be one that is still fooled
        assert torch.load(tmp_path / name / "best.pt", weights_only=True)["epoch"] == 14
    assert scores["no_edits"] < 0.25 < 0.5 < scores["full"], scores
