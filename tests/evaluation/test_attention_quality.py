"""How good attention is: all figures of a run written out."""

import json

import numpy as np
import pytest
import torch
from helpers.marked_images import save
from helpers.pictures import not_blank
from helpers.reference import tiny_model
from helpers.runs import settings, train
from sklearn.metrics import auc

from sigmoid_vit.annotations.cells import cell_means
from sigmoid_vit.annotations.marked import MarkedCells, epg, iou
from sigmoid_vit.annotations.selection import attention_outside, stratified
from sigmoid_vit.data import load_data
from sigmoid_vit.edits.store import EditStore, StoredEdit
from sigmoid_vit.evaluation import attention_quality as quality
from sigmoid_vit.evaluation.evaluate import evaluate_run
from sigmoid_vit.evaluation.insertion_deletion import probability_curve
from sigmoid_vit.runs.network import Network


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("quality"), "--epochs", "1")


@pytest.fixture(scope="module")
def measured(run):
    """The attention figures of evaluate.py on the test part, and what it takes to compute them again."""
    attention = evaluate_run(run.folder, errors=0, faithfulness=20, decision_maps=0)["attention"]
    network = Network.of_run(run)
    part = network.prepare(load_data("digits_decoy").test("test"))
    covers = [cell_means(part.part.mask(i) >= 0.5, (6, 6)) for i in range(500)]
    return attention, network, part, torch.from_numpy(np.stack(covers))


def written_out(network, part):
    """Class logits, sigmoid attention of the last layer and softmax attention of the first, of all images."""
    inputs = network.inputs(part, list(range(len(part))))
    with torch.no_grad():
        class_logits, logits = network.model.forward_with_attention(inputs, layers="all", queries="cls")
    maps = (logits[2].sigmoid(), logits[0].softmax(-1))
    return class_logits.cpu(), *(x[:, :, 0, 1:].mean(1).unflatten(1, (6, 6)).cpu() for x in maps)


def rollout_of(network, part, positions):
    return network.predict(part).attention_maps(list(positions)).rollout


def test_figures_against_the_data_sets_own_masks(measured):
    attention, network, part, cover = measured
    masks = attention["masks"]
    _, last, first = written_out(network, part)
    assert masks["n"] == 500
    assert masks["iou_threshold"] == 0.5
    assert set(masks["sigmoid"]) == {"0", "1", "2"}
    assert masks["chance"]["epg"] == pytest.approx(cover.mean().item(), abs=1e-5)
    assert masks["chance"]["pointing_game"] == pytest.approx((cover > 0).double().mean().item(), abs=1e-5)
    assert masks["sigmoid"]["2"]["epg"] == pytest.approx(epg(last, cover).mean().item(), abs=1e-4)
    expected = iou(first / first.amax((1, 2), keepdim=True), cover).mean().item()
    assert masks["softmax"]["0"]["iou"] == pytest.approx(expected, abs=2e-3)
    top = rollout_of(network, part, range(500)).flatten(1).argmax(1, keepdim=True)
    expected = cover.flatten(1).gather(1, top).gt(0).double().mean().item()
    assert masks["rollout"]["pointing_game"] == pytest.approx(expected, abs=5e-3)


def test_attention_outside_is_the_number_by_which_images_are_selected(measured):
    attention, network, part, cover = measured
    off = attention_outside(network, part, np.arange(500), list(cover.numpy()))
    assert 1 - off.mean() == pytest.approx(attention["masks"]["softmax"]["2"]["epg"], abs=1e-5)


def test_curves_of_insertion_and_deletion(measured):
    attention, network, part, _ = measured
    curves, sample = attention["faithfulness"], np.sort(stratified(part.part.labels, 20, seed=0))
    assert (curves["n"], curves["points"], curves["start"]) == (20, 37, "mean")
    assert curves["share"] == pytest.approx(np.arange(37) / 36)
    class_logits, last, _ = written_out(network, part)
    images, predicted = network.inputs(part, sample.tolist()), class_logits[sample].argmax(1)
    empty = torch.zeros_like(images)
    for order, maps in {"sigmoid": last[sample], "rollout": rollout_of(network, part, sample)}.items():
        with torch.no_grad():
            curve = probability_curve(network.model, images, empty, maps, predicted).mean(0).tolist()
        assert curves[order]["deletion_curve"] == pytest.approx(curve, abs=1e-6), order
    for order in ("sigmoid", "rollout", "random"):
        deletion, insertion = (curves[order][f"{kind}_curve"] for kind in ("deletion", "insertion"))
        assert deletion[0] == pytest.approx(insertion[-1]), order
        assert deletion[-1] == pytest.approx(insertion[0]), order
        assert curves[order]["deletion_auc"] == pytest.approx(auc(curves["share"], deletion)), order
        assert class_logits.softmax(1).amax(1).min() <= deletion[0] <= 1, order


def test_figures_are_written_drawn_and_summed_up(measured, run):
    attention = measured[0]
    written = json.loads((run.folder / "evaluation/metrics.json").read_text())
    assert written["attention"] == attention
    assert not_blank(run.folder / "evaluation/insertion_deletion.png")
    masks, curves = quality.summary(attention)
    assert f"chance {attention['masks']['chance']['epg']:.3f}" in masks
    assert "on 500 masks of the data set" in masks
    assert f"random order {attention['faithfulness']['random']['insertion_auc']:.3f}" in curves


def test_a_run_is_measured_against_masks_that_are_named(run, tmp_path):
    half = np.zeros((24, 24), np.uint8)
    half[:, :12] = 255
    for name, mask in {"3": half, "4": 0 * half, "5": 0 * half + 255}.items():
        save(tmp_path / f"test/{name}.png", mask)
    masks = evaluate_run(run.folder, masks=str(tmp_path), errors=0, faithfulness=0, decision_maps=0)[
        "attention"
    ]["masks"]
    assert masks["n"] == 2
    assert masks["from"] == f"masks in {tmp_path}"
    assert masks["chance"] == {"pointing_game": 0.75, "epg": 0.75, "iou": 0.75}
    assert 0.5 < masks["softmax"]["2"]["epg"] < 1


def test_a_run_is_measured_against_edits_that_are_named(run, tmp_path):
    test, corner = load_data("digits_decoy").test("test"), np.zeros((6, 6), bool)
    corner[0, 0] = True
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save(StoredEdit("test/9", test.sha256(9), np.zeros((6, 6), np.float32), corner, "a person"))
    metrics = evaluate_run(
        run.folder, edits=str(tmp_path / "edits.sqlite"), errors=0, faithfulness=0, decision_maps=0
    )
    masks = metrics["attention"]["masks"]
    assert masks["n"] == 1
    assert masks["chance"]["epg"] == pytest.approx(35 / 36)
    assert "faithfulness" not in metrics["attention"]
    assert not list((run.folder / "evaluation").glob("insertion_deletion.*"))  # an earlier one is gone


def test_figures_do_not_depend_on_the_batches(tmp_path, monkeypatch):
    network = Network(tiny_model(), settings(tmp_path, "--img_size", "32"), list("abcde"))
    part = network.prepare(load_data("digits_decoy").val.subset(range(9)))
    marked = MarkedCells("", {i: np.eye(4) for i in (0, 2, 3, 7)})
    whole = quality.attention_quality(network, part, marked, 64, 7)
    monkeypatch.setattr(
        "sigmoid_vit.runs.network.LOGITS_MEMORY", 2 * 4 * 3 * 2 * 17**2
    )  # two images at a time
    sizes, forward = [], network.model.forward_with_attention

    def counted(images, *args, **kwargs):
        sizes.append(len(images))
        return forward(images, *args, **kwargs)

    monkeypatch.setattr(network.model, "forward_with_attention", counted)
    parts = quality.attention_quality(network, part, marked, 64, 7)
    assert sizes == [2, 2, 2, 2, 2, 1]
    assert whole["masks"]["n"] == 4
    for name in ("masks", "faithfulness"):
        a, b = (json.loads(json.dumps(x[name])) for x in (whole, parts))
        assert flat(a) == pytest.approx(flat(b), abs=1e-5), name


def flat(figures, path=""):
    if isinstance(figures, dict):
        return {k: v for name, x in figures.items() for k, v in flat(x, f"{path}/{name}").items()}
    return {f"{path}/{i}": x for i, x in enumerate(np.atleast_1d(figures).tolist()) if not isinstance(x, str)}
