"""Figures of predictions: they hold for any predictions, and calibration is right on paper."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmoid_vit.evaluation.metrics import calibration_bins, classification_metrics


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 30), K=st.integers(2, 8), seed=st.integers(0, 99))
def test_metrics_hold_for_any_predictions(n, K, seed):
    g = torch.Generator().manual_seed(seed)
    p, labels = torch.rand(n, K, generator=g).softmax(1), torch.randint(K, (n,), generator=g)
    metrics = classification_metrics(p, labels, [f"class {k}" for k in range(K)])
    tops = [metrics[f"top{k}"] for k in range(1, min(5, K) + 1)]
    assert tops == sorted(tops)
    assert tops[0] == pytest.approx((p.argmax(1) == labels).float().mean().item())
    assert f"top{K + 1}" not in metrics
    assert K > 5 or tops[-1] == 1
    assert sum(map(sum, metrics["confusion_matrix"])) == n
    assert 0 <= metrics["ece"] <= 1
    absent = {f"class {k}" for k in set(range(K)) - set(labels.tolist())}
    assert {name for name, share in metrics["per_class_accuracy"].items() if share is None} == absent
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize("labels", [[2, 2, 2, 0, 1], [0, 1, 1]])
def test_the_commonest_class_gets_what_a_network_that_names_it_alone_gets(labels):
    labels = torch.tensor(labels)
    p = torch.full((len(labels), 4), 0.1)
    p[:, labels.mode().values] = 0.7
    metrics = classification_metrics(p, labels, list("abcd"))
    trivial = metrics["commonest_class"]
    assert trivial["class"] == "abcd"[labels.mode().values]
    assert trivial["top1"] == pytest.approx(metrics["top1"])
    assert trivial["macro_accuracy"] == pytest.approx(metrics["macro_accuracy"])
    assert metrics["predicted_classes"] == 1


def test_calibration_error_on_paper():
    """Ten predictions of confidence 0.8, seven right: the gap is 0.1."""
    p = torch.tensor([[0.8, 0.2]]).repeat(10, 1)
    labels = torch.tensor([0] * 7 + [1] * 3)
    assert classification_metrics(p, labels, ["a", "b"])["ece"] == pytest.approx(0.1, abs=1e-6)


def test_calibration_bins_on_paper():
    """Confidences 0.5, 0.5 and 0.95: one of two right, then one of one."""
    p = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.02, 0.95, 0.03]])
    bins = calibration_bins(p, torch.tensor([0, 1, 1]))
    assert bins["images"] == [0] * 7 + [2] + [0] * 6 + [1]
    assert bins["accuracy"] == [None] * 7 + [0.5] + [None] * 6 + [1.0]
    assert bins["confidence"][7] == pytest.approx(0.5)
    assert bins["confidence"][14] == pytest.approx(0.95)


def test_calibration_bins_give_the_calibration_error():
    g = torch.Generator().manual_seed(0)
    p, labels = (3 * torch.randn(400, 5, generator=g)).softmax(1), torch.randint(5, (400,), generator=g)
    metrics = classification_metrics(p, labels, list("abcde"))
    there = [row for row in zip(*metrics["calibration"].values(), strict=True) if row[2]]
    assert sum(images for _, _, images in there) == 400
    gap = sum(images / 400 * abs(accuracy - confidence) for confidence, accuracy, images in there)
    assert metrics["ece"] == pytest.approx(gap, abs=1e-5)
