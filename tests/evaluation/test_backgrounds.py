"""The background test: what is hidden and exchanged, and what the figures say of networks that are known."""

import numpy as np
import pytest
import torch
from helpers.runs import train

from sigmoid_vit import UserError
from sigmoid_vit.annotations.marked import MarkedCells, marked_cells
from sigmoid_vit.data import load_data
from sigmoid_vit.evaluation import backgrounds
from sigmoid_vit.evaluation.backgrounds import background_test, images_of_another_class, object_cells
from sigmoid_vit.evaluation.evaluate import evaluate_run, report
from sigmoid_vit.runs.network import Network


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("backgrounds"), "--epochs", "12")


@pytest.fixture(scope="module")
def network(run):
    return Network.of_run(run)


def predictions_of(network, name):
    return network.predict(network.prepare(load_data("digits_decoy").test(name)))


def test_the_object_is_what_is_marked_and_a_cell_around():
    cover = torch.zeros(2, 5, 6)
    cover[0, 0, 0] = cover[1, 2, 3] = 0.1
    expected = torch.zeros(2, 5, 6, dtype=torch.bool)
    expected[0, :2, :2] = expected[1, 1:4, 2:5] = True
    assert object_cells(cover).equal(expected)


def test_the_other_image_is_of_another_class():
    labels = np.random.default_rng(0).integers(3, size=200)
    others = images_of_another_class(labels, seed=1)
    assert (labels[others] != labels).all()
    assert len(np.unique(others)) > 100
    assert (images_of_another_class(labels, seed=1) == others).all()


def test_a_network_that_decides_by_the_squares_is_right_by_them_alone(network):
    """Where they are as in training it is right; hidden or exchanged, they are not."""
    predictions = predictions_of(network, "test_train_like")
    marked = marked_cells(load_data("digits_decoy"), predictions.part.part, network.grid)
    found = background_test(predictions, marked, batch_size=64)
    assert found["n"] == 500
    right = (predictions.probabilities.argmax(1) == predictions.labels).float().mean()
    assert found["as_is"]["top1"] == pytest.approx(right.item(), abs=1e-6)
    assert found["as_is"]["top1"] > 0.9 > 0.4 > max(found[k]["top1"] for k in ("hidden", "exchanged"))
    again = background_test(predictions, marked, batch_size=500)
    assert again["exchanged"]["top1"] == pytest.approx(found["exchanged"]["top1"], abs=0.005)


def test_images_that_are_all_object_stay_as_they_are(network):
    predictions = predictions_of(network, "test")
    everything = MarkedCells("all", {i: np.ones(network.grid) for i in range(40)})
    found = background_test(predictions, everything, batch_size=16)
    assert found["background"] == 0
    assert found["as_is"] == found["hidden"] == found["exchanged"]


def test_what_the_network_sees(network, monkeypatch):
    """Written out for one pair: the own object, the other's background, and nothing of the other's object."""
    predictions = predictions_of(network, "test")
    cover = np.zeros((2, *network.grid))
    cover[0, 0, 0] = cover[1, 5, 5] = 1
    first, second = 0, int((predictions.labels != predictions.labels[0]).nonzero()[0])
    seen = []
    monkeypatch.setattr(network.model, "forward", lambda x: seen.append(x) or torch.zeros(len(x), 10))
    background_test(predictions, MarkedCells("", {first: cover[0], second: cover[1]}), batch_size=2)
    a, b = predictions.inputs([first, second])
    side = a.shape[-1] // 6
    own, theirs = (..., slice(2 * side), slice(2 * side)), (..., slice(4 * side, None), slice(4 * side, None))
    hidden, exchanged = torch.zeros_like(a), b.clone()
    hidden[own] = exchanged[own] = a[own]
    exchanged[theirs] = 0
    assert torch.equal(seen[0][0], hidden)
    assert torch.equal(seen[1][0], exchanged)


@pytest.mark.slow
def test_evaluate_tells_it(run):
    metrics = evaluate_run(run.folder, errors=0, faithfulness=0, decision_maps=0, backgrounds=True)
    assert f"as they are {metrics['top1']:.4f}" in "\n".join(report(metrics))
    assert "backgrounds" not in evaluate_run(run.folder, errors=0, faithfulness=0, decision_maps=0)


def test_one_class_alone_has_nothing_to_exchange(network):
    predictions = predictions_of(network, "test")
    of_one = {int(i): np.ones(network.grid) for i in (predictions.labels == 3).nonzero()[:5]}
    for cover in (of_one, {}):
        with pytest.raises(UserError, match="of at least two classes"):
            background_test(predictions, MarkedCells("", cover), backgrounds.AROUND)
