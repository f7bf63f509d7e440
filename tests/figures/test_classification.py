"""How right a network is, in pictures: the given numbers on fixed scales, whatever the classes are called."""

import numpy as np
import pytest
import torch
from helpers.figures import LONG, NAMES, maps, saved, within
from scipy.integrate import trapezoid

from sigmoid_vit.evaluation.metrics import classification_metrics
from sigmoid_vit.figures.classification import (
    _confusions,
    draw_calibration,
    draw_confusion_matrix,
    draw_mpp_histogram,
    draw_per_class_accuracy,
)


def test_calibration_shows_the_bins_that_hold_images():
    g = torch.Generator().manual_seed(0)
    p, labels = (3 * torch.randn(400, 5, generator=g)).softmax(1), torch.randint(5, (400,), generator=g)
    metrics = classification_metrics(p, labels, list("abcde"))
    there = [row for row in zip(*metrics["calibration"].values(), strict=True) if row[2]]
    axes = draw_calibration(metrics["calibration"], metrics["ece"]).axes[0]
    assert np.allclose(axes.collections[0].get_offsets(), [row[:2] for row in there])
    assert axes.get_ylim() == (0, 1)


@pytest.mark.parametrize("K", [2, 25, 200])
def test_confusion_matrices_of_every_size(tmp_path, K):
    counts = np.random.RandomState(0).randint(0, 9, (K, K))
    pixels = saved(draw_confusion_matrix(counts, [f"鳥{k}" for k in range(K)]), tmp_path)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize(
    "names", [["猫", "北の森のシジュウカラとハシブトガラスの雌の成鳥の写真集Ⅱ"], ["a" * 28, "b"]]
)
def test_long_names_leave_the_matrix_its_size(names, tmp_path):
    assert max(map(len, names)) == 28
    figure = draw_confusion_matrix([[3, 1], [0, 2]], names, LONG)
    saved(figure, tmp_path)
    axes = figure.axes[0]
    assert within(figure, *axes.get_xticklabels(), *axes.get_yticklabels())
    assert min(axes.get_window_extent().size) / figure.dpi > 1.8


def test_few_classes_are_all_named(tmp_path):
    figure = draw_per_class_accuracy(dict(zip(NAMES, [0.25, 1.0, None, 0.0], strict=True)), [4, 2, 0, 9])
    (axes,) = figure.axes
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown[0] == "シジュウカラ (4)"
    assert shown[1] == "$\\frac{$ (2)"
    assert len(shown[2]) < 35
    assert [bar.get_width() for bar in axes.patches] == [0.25, 1, 0, 0]
    assert [text.get_text() for text in axes.texts] == ["0.250", "1.000", "no images", "0.000"]
    assert axes.get_xlim() == (0, 1)
    saved(figure, tmp_path)


def test_of_many_classes_the_worst_are_named(tmp_path):
    names = [f"{k} {NAMES[k % 4]}" for k in range(200)]
    accuracy = np.random.RandomState(0).permutation(200) / 200
    figure = draw_per_class_accuracy(dict(zip(names, accuracy.tolist(), strict=True)), [5] * 200)
    worst, all_classes = figure.axes
    assert [bar.get_width() for bar in worst.patches] == [k / 200 for k in range(20)]
    first = int(np.argmin(accuracy))
    assert worst.get_yticklabels()[0].get_text().startswith(f"{first} ")
    assert all_classes.lines[0].get_ydata().tolist() == sorted(accuracy)
    saved(figure, tmp_path)


def test_confusions_of_many_classes_are_the_most_frequent():
    counts = np.diag([9] * 40)
    counts[3, 5], counts[7, 0], counts[1, 2] = 2, 8, 1
    names = [f"c{k}" for k in range(40)]
    shown = {"c7 taken for c0": 8, "c3 taken for c5": 2, "c1 taken for c2": 1}
    assert list(_confusions(counts.tolist(), names).items()) == list(shown.items())
    assert _confusions([[1, 0], [2, 3]], ["a", "b"]) == {"a": [1, 0], "b": [2, 3]}


def test_the_matrix_of_many_classes_has_their_numbers():
    many = draw_confusion_matrix(np.diag([9] * 40), [f"c{k}" for k in range(40)]).axes[0]
    assert not any(label.get_text().startswith("c") for label in many.get_xticklabels())
    named = draw_confusion_matrix([[1, 0], [2, 3]], NAMES[:2]).axes[0]
    assert [label.get_text() for label in named.get_xticklabels()] == NAMES[:2]


@pytest.mark.parametrize("values", [maps(300) ** 3, torch.full((5,), 0.5), torch.tensor([0.0, 1.0])])
def test_the_density_holds_all_images(values, tmp_path):
    mpp = {"mean": values.mean().item(), "max": 1.0, "min": 0.0}
    figure = draw_mpp_histogram(values, mpp)
    axes = figure.axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == len(values)
    assert axes.get_xlim() == (0, 1)
    densities = [line for line in axes.lines if line.get_label() == "density"]
    assert len(densities) == (len(values) == 300)
    for line in densities:  # per bin of 1/20
        assert trapezoid(line.get_ydata(), line.get_xdata()) * 20 == pytest.approx(300, rel=0.01)
    saved(figure, tmp_path)
