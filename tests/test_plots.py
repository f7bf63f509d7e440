"""Pictures show the numbers they were given, on fixed scales, whatever the classes are called."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from reference import tiny_model
from scipy.integrate import trapezoid

from sigmoid_vit import AttentionEdit, plots
from sigmoid_vit.edit_maps import EditMaps
from sigmoid_vit.metrics import calibration_bins, classification_metrics, confident_hits
from sigmoid_vit.pictures import _confusions, _reaches, _some_edits

NAMES = ["シジュウカラ", "$\\frac{$", "a_very_long_name_of_a_woodpecker_of_the_far_north", "<b>"]


def saved(figure, path):
    """The pixels of the saved picture; a character without a glyph is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.save(figure, path / "picture")
    assert (path / "picture.pdf").stat().st_size > 1000
    return np.asarray(Image.open(path / "picture.png").convert("RGB"))


def maps(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def images(B):
    return (255 * maps(B, 3, 8, 8)).byte()


def test_calibration_bins_on_paper():
    """Confidences 0.5, 0.5 and 0.95: one of two right, then one of one."""
    p = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.02, 0.95, 0.03]])
    bins = calibration_bins(p, torch.tensor([0, 1, 1]))
    assert bins["images"] == [0] * 7 + [2] + [0] * 6 + [1]
    assert bins["accuracy"] == [None] * 7 + [0.5] + [None] * 6 + [1.0]
    assert bins["confidence"][7] == pytest.approx(0.5) and bins["confidence"][14] == pytest.approx(0.95)


def test_calibration_bins_give_the_calibration_error():
    g = torch.Generator().manual_seed(0)
    p, labels = (3 * torch.randn(400, 5, generator=g)).softmax(1), torch.randint(5, (400,), generator=g)
    metrics = classification_metrics(p, labels, list("abcde"))
    there = [row for row in zip(*metrics["calibration"].values(), strict=True) if row[2]]
    gap = sum(images / 400 * abs(accuracy - confidence) for confidence, accuracy, images in there)
    assert metrics["ece"] == pytest.approx(gap, abs=1e-5) and sum(row[2] for row in there) == 400
    axes = plots.calibration(metrics["calibration"], metrics["ece"]).axes[0]
    shown = axes.collections[0].get_offsets()
    assert np.allclose(shown, [row[:2] for row in there]) and axes.get_ylim() == (0, 1)


def test_hits_take_turns_among_the_classes():
    confidence = torch.tensor([0.99, 0.98, 0.97, 0.6, 0.7, 0.9])
    labels = torch.tensor([0, 0, 0, 1, 1, 0])
    p = torch.stack([confidence, 1 - confidence], dim=1)
    p[3:5] = p[3:5].flip(1)
    p[5] = p[5].flip(0)  # an error
    assert confident_hits(p, labels, 9) == [0, 4, 1, 3, 2]
    assert confident_hits(p, labels, 2) == [0, 4]


def test_curves_are_those_of_the_log():
    history = [{"epoch": 1, "loss": 2.0, "accuracy": 0.25}, {"epoch": 2, "loss": 1.0, "accuracy": 0.5}]
    loss, accuracy = plots.learning_curves(history, kept=2).axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 2], [2, 1]] and loss.lines[1].get_xdata() == [2, 2]
    assert len(loss.lines) == 2 and accuracy.get_ylim() == (0, 1)  # no validation, no curve of it
    with_val = [line | {"val_loss": 3.0, "val_accuracy": 0.1} for line in history]
    assert plots.learning_curves(with_val).axes[1].lines[1].get_xydata().tolist() == [[1, 0.1], [2, 0.1]]


def test_few_classes_are_all_named(tmp_path):
    figure = plots.per_class_accuracy(dict(zip(NAMES, [0.25, 1.0, None, 0.0], strict=True)), [4, 2, 0, 9])
    (axes,) = figure.axes
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown[0] == "シジュウカラ (4)" and shown[1] == "$\\frac{$ (2)" and len(shown[2]) < 35
    assert [bar.get_width() for bar in axes.patches] == [0.25, 1, 0, 0]
    assert [text.get_text() for text in axes.texts] == ["0.250", "1.000", "no images", "0.000"]
    assert axes.get_xlim() == (0, 1)
    saved(figure, tmp_path)


def test_of_many_classes_the_worst_are_named(tmp_path):
    names = [f"{k} {NAMES[k % 4]}" for k in range(200)]
    accuracy = np.random.RandomState(0).permutation(200) / 200
    figure = plots.per_class_accuracy(dict(zip(names, accuracy.tolist(), strict=True)), [5] * 200)
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
    assert _confusions(counts.tolist(), names) == shown and list(shown) == list(_confusions(counts, names))
    assert _confusions([[1, 0], [2, 3]], ["a", "b"]) == {"a": [1, 0], "b": [2, 3]}
    axes = plots.confusion_matrix(counts, names).axes[0]
    assert not any(label.get_text().startswith("c") for label in axes.get_xticklabels())
    named = plots.confusion_matrix([[1, 0], [2, 3]], NAMES[:2]).axes[0]
    assert [label.get_text() for label in named.get_xticklabels()] == NAMES[:2]


@pytest.mark.parametrize("values", [maps(300) ** 3, torch.full((5,), 0.5), torch.tensor([0.0, 1.0])])
def test_the_density_holds_all_images(values, tmp_path):
    mpp = {"mean": values.mean().item(), "max": 1.0, "min": 0.0}
    figure = plots.mpp_histogram(values, mpp)
    axes = figure.axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert sum(heights) == len(values) and axes.get_xlim() == (0, 1)
    densities = [line for line in axes.lines if line.get_label() == "density"]
    assert len(densities) == (len(values) == 300)
    for line in densities:  # per bin of 1/20
        assert trapezoid(line.get_ydata(), line.get_xdata()) * 20 == pytest.approx(300, rel=0.01)
    saved(figure, tmp_path)


def test_all_layers_are_shown_on_the_scale_from_0_to_1(tmp_path):
    sigmoid, softmax, rollout = maps(2, 3, 4, 5), maps(2, 3, 4, 5) / 20, maps(2, 4, 5) / 9
    titles = ["test/1\nanswer シジュウカラ", "a" * 90]
    figure = plots.attention_layers(images(2), sigmoid, softmax, rollout, titles, "title")
    shown = [ax.images[0] for ax in figure.axes if ax.images and ax.images[0].get_array().shape == (4, 5)]
    assert len(shown) == 2 * (3 + 3 + 1) and all(image.get_clim() == (0, 1) for image in shown)
    drawn = [torch.from_numpy(np.array(image.get_array())) for image in shown]
    expected = [*sigmoid.flatten(0, 1), *(m / m.max() for m in (*softmax.flatten(0, 1), *rollout))]
    for values in expected:
        assert any(torch.equal(values, other) for other in drawn)
    written = {ax.get_xlabel() for ax in figure.axes}
    assert {f"max {softmax[1, 2].max():.2g}", f"max {rollout[0].max():.2g}"} <= written
    saved(figure, tmp_path)


def test_an_edit_and_its_answer(tmp_path):
    own, under, edited = maps(4, 4), maps(4, 4) / 2, torch.zeros(4, 4, dtype=torch.bool)
    edited[1, 2] = True
    before, after = torch.tensor([0.7, 0.2, 0.1, 0.0]), torch.tensor([0.1, 0.8, 0.1, 0.0])
    figure = plots.edited_answer(images(1)[0], own, under, edited, before, after, NAMES, label=3, shown=3)
    answer = figure.axes[3]
    assert [label.get_text() for label in answer.get_yticklabels()] == [NAMES[1], NAMES[0], "<b> (true)"]
    widths = [bar.get_width() for bar in answer.patches]
    assert widths == pytest.approx([0.2, 0.7, 0.0, 0.8, 0.1, 0.0])
    (frame,) = figure.axes[2].patches
    assert frame.get_xy() == (1.5, 0.5) and not figure.axes[1].patches
    saved(figure, tmp_path)


def test_outcomes_stand_where_they_belong(tmp_path):
    change = {"n": 20, "fixed": list("abc"), "broken": ["d"], "both_right": 9, "both_wrong": 7}
    change |= {"accuracy": {"run": 0.6, "against": 0.5}, "mcnemar_p": 0.625}
    figure = plots.outcomes(change, "title")
    texts = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert texts == {
        (0, 0): "9\nright both times",
        (1, 0): "1\nbroken",
        (0, 1): "3\nfixed",
        (1, 1): "7\nwrong both times",
    }
    assert "p = 0.62" in figure.get_suptitle() and figure.axes[0].get_xlabel() == "after: accuracy 0.600"
    saved(figure, tmp_path)


def test_edits_without_a_network_before(tmp_path):
    edits = maps(2, 3, 3), maps(2, 3, 3) > 0.5
    figure = plots.before_after(images(2), None, maps(2, 3, 3), ["a", "b"], edits=edits)
    assert [ax.get_title() for ax in figure.axes[:3]] == ["image", "edit", "attention"]
    assert "hatched" in figure.get_suptitle()
    everything = edits[0], torch.ones_like(edits[1])
    whole = plots.before_after(images(2), None, maps(2, 3, 3), ["a", "b"], edits=everything)
    assert "hatched" not in whole.get_suptitle()
    saved(figure, tmp_path)


def test_shown_edits_are_spread_over_people_and_predictions():
    everything = EditMaps(torch.zeros(50, 2, 2), torch.ones(50, 2, 2, dtype=torch.bool), np.arange(50) >= 20)
    assert _some_edits(everything).tolist() == [0, 6, 13, 19, 20, 49]
    few_people = everything.subset(np.arange(18, 50))
    assert _some_edits(few_people).tolist() == [0, 1, 2, 12, 21, 31]
    assert _some_edits(everything.subset(np.arange(3))).tolist() == [0, 1, 2]
    assert _some_edits(EditMaps.empty(4, (2, 2))).tolist() == []


def test_which_maps_an_edit_reaches():
    model, value = tiny_model(), torch.zeros(1, 4, 4)
    last = len(model.blocks) - 1
    for layers, queries, layer, query, reached in (
        ("all", "all", "last", None, True),
        ("all", "all", 0, 5, True),
        ("all", "cls", 0, None, True),
        ("all", "cls", 0, 5, False),
        (last, "all", "last", 5, True),
        (last, "all", 0, 5, False),
    ):
        edit = AttentionEdit(value, value == 0, layers, queries=queries)
        assert _reaches(edit, model, layer, query) == reached
