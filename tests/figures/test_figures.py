"""Pictures show the numbers they were given, on fixed scales, whatever the classes are called."""

import warnings

import numpy as np
import pytest
import torch
from helpers.reference import tiny_model
from PIL import Image
from scipy.integrate import trapezoid
from sigmoid_vit.metrics_MISSING import confident_hits

from sigmoid_vit import AttentionEdit, plots
from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.evaluation.metrics import calibration_bins, classification_metrics
from sigmoid_vit.figures.classification import _confusions
from sigmoid_vit.figures.one_edit import _edit_text, _most_probable, _reaches
from sigmoid_vit.figures.style import columns, wrapped
from sigmoid_vit.figures.training_edits import _some_edits

LONG = "CUB_200_2010_HITL_full_propagated_seed3_lambda0.5_of_the_24th_of_July, test_train_like"
NAMES = ["シジュウカラ", "$\\frac{$", "a_very_long_name_of_a_woodpecker_of_the_far_north", "<b>"]


def saved(figure, path):
    """The pixels of the saved picture; a character without a glyph is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.save(figure, path / "picture")
    assert (path / "picture.pdf").stat().st_size > 1000
    return np.asarray(Image.open(path / "picture.png").convert("RGB"))


def within(figure, *texts):
    """Whether the texts lie inside the figure."""
    with plots.style():
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in texts]
    width, height = figure.bbox.size
    return all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)


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


def test_a_single_epoch_has_a_whole_number(tmp_path):
    figure = plots.learning_curves([{"epoch": 1, "loss": 2.0, "accuracy": 0.25}], kept=1)
    for axes in figure.axes:
        ticks = [tick for tick in axes.get_xticks() if 0.5 <= tick <= 1.5]
        assert axes.get_xlim() == (0.5, 1.5) and ticks == [1]
    saved(figure, tmp_path)


def test_wide_characters_count_double():
    assert [plots.short("シジュウカラ", n) for n in (12, 11)] == ["シジュウカラ", "シジュウカ…"]
    assert plots.short("woodpecker", 9) == "woodpeck…" and columns("シa…") == 4
    text = wrapped("答え シジュウカラ\n\ntest/1.png is right", 8)
    assert text == "答え\nシジュウ\nカラ\n\ntest/1.p\nng is\nright"


def test_titles_fit_the_figure():
    """Whatever the run is called; a title in more lines makes the figure taller."""
    mpp, change = {"mean": 0.5, "max": 1.0, "min": 0.0}, {"accuracy": {"run": 0.6, "against": 0.5}}
    change |= {"n": 2, "fixed": [], "broken": [], "both_right": 1, "both_wrong": 1, "mcnemar_p": 1.0}
    bins = {"confidence": [0.7], "accuracy": [0.5], "images": [2]}
    curve = {"insertion_auc": 0.5, "deletion_auc": 0.5, "insertion_curve": [0, 1], "deletion_curve": [1, 0]}
    curves = {"share": [0, 1], "n": 2, **dict.fromkeys(("sigmoid", "rollout", "random"), curve)}
    one, history = maps(1, 2, 3, 3), [{"epoch": 1, "loss": 2.0, "accuracy": 0.25}]
    for draw, *given in (
        (plots.learning_curves, history, 1),
        (plots.top_k, {"top1": 0.5}),
        (plots.per_class_accuracy, {"a": 0.5}, [2]),
        (plots.confusion_matrix, [[1, 0], [1, 1]], "ab"),
        (plots.mpp_histogram, maps(9), mpp),
        (plots.calibration, bins, 0.1),
        (plots.insertion_deletion, curves),
        (plots.outcomes, change),
        (plots.before_after, images(1), one[0], one[0], ["a"]),
        (plots.attention_grid, images(1), one, ["a"]),
        (plots.attention_layers, images(1), one, one, one[:, 0], ["a"]),
    ):
        figure, usual = draw(*given, title=f"{LONG} against {LONG}"), draw(*given, title="run")
        assert within(figure, figure._suptitle) and "against" in figure.get_suptitle(), draw
        assert figure.get_figheight() > usual.get_figheight() and LONG[:20] in figure.get_suptitle()


@pytest.mark.parametrize(
    "names", [["猫", "北の森のシジュウカラとハシブトガラスの雌の成鳥の写真集Ⅱ"], ["a" * 28, "b"]]
)
def test_long_names_leave_the_matrix_its_size(names, tmp_path):
    assert max(map(len, names)) == 28
    figure = plots.confusion_matrix([[3, 1], [0, 2]], names, LONG)
    saved(figure, tmp_path)
    axes = figure.axes[0]
    assert within(figure, *axes.get_xticklabels(), *axes.get_yticklabels())
    assert min(axes.get_window_extent().size) / figure.dpi > 1.8


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


@pytest.mark.parametrize("n", [7, 12, 24])
def test_many_layers_and_heads_stand_in_rows(n, tmp_path):
    texts = ["test/012.Yellow_headed_Blackbird/Yellow_Headed_Blackbird_0003_8337.jpg\nanswer 猫 (100%)"]
    grid = plots.attention_grid(images(1), maps(1, n, 3, 3), texts, looks="mean over all patches")
    layers = plots.attention_layers(images(1), *maps(2, 1, n, 3, 3), maps(1, 3, 3), texts)
    assert "mean over all patches" in grid.get_suptitle() and "class token" in layers.get_suptitle()
    for figure, name in ((grid, "head"), (layers, "layer")):
        saved(figure, tmp_path)
        places = {ax.get_title(): ax.get_position() for ax in figure.axes}
        found = [places[f"{name} {k}"] for k in range(n)]
        assert figure.get_figwidth() <= 11.1
        assert len({round(place.x0, 2) for place in found}) == 6
        assert len({round(place.y0, 2) for place in found}) == -(-n // 6)
        assert min(place.width for place in found) * figure.get_figwidth() > 0.6


def test_texts_beside_rows_do_not_meet(tmp_path):
    text = "val/北の森のシジュウカラとハシブトガラスの雌の成鳥の写真集/0001_7961113.jpg\n" + "before: x\n" * 9
    drawn = plots.before_after(images(3), maps(3, 3, 3), maps(3, 3, 3), [text] * 3)
    for figure in (drawn, plots.attention_grid(images(3), maps(3, 2, 3, 3), [text] * 3)):
        labels = [ax.yaxis.label for ax in figure.axes if "before: x" in ax.get_ylabel()]
        assert len(labels) == 3 and within(figure, *labels)
        boxes = [label.get_window_extent() for label in labels]
        assert boxes[0].y0 > boxes[1].y1 and boxes[1].y0 > boxes[2].y1
        saved(figure, tmp_path)


def test_an_edit_and_its_answer(tmp_path):
    own, under, edited = maps(4, 4), maps(4, 4) / 2, torch.zeros(4, 4, dtype=torch.bool)
    edited[1, 2] = True
    before, after = torch.tensor([0.2, 0.7, 0.0]), torch.tensor([0.8, 0.1, 0.0])
    names = [NAMES[1], NAMES[0], NAMES[3]]
    about = (images(1)[0], own, under, edited, before, after, names)
    figure = plots.edited_answer(*about, true=2)
    answer = figure.axes[3]
    assert [label.get_text() for label in answer.get_yticklabels()] == [NAMES[1], NAMES[0], "<b> (true)"]
    widths = [bar.get_width() for bar in answer.patches]
    assert widths == pytest.approx([0.2, 0.7, 0.0, 0.8, 0.1, 0.0])
    (frame,) = figure.axes[2].patches
    assert frame.get_xy() == (1.5, 0.5) and not figure.axes[1].patches
    saved(figure, tmp_path)
    of_a_patch = plots.edited_answer(*about, query=(3, 0))
    frames = [{patch.get_xy() for patch in axes.patches} for axes in of_a_patch.axes[:3]]
    assert frames == [{(-0.5, 2.5)}, {(-0.5, 2.5)}, {(-0.5, 2.5), (1.5, 0.5)}]


def test_what_an_edit_does_is_said():
    model, value = tiny_model(), torch.zeros(1, 4, 4)
    edited = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert _edit_text(AttentionEdit(value, edited), model) == "no cell is edited"
    edited[0, 1:3, 2] = True
    text = _edit_text(AttentionEdit(value, edited), model)
    assert text == "rows 1 to 2, column 2 set to 0 in all layers, all query rows"
    value[0, 2, 2], edited[0, 0, 0] = 0.7, True
    text = _edit_text(AttentionEdit(value, edited, 1, queries="cls"), model)
    assert (
        text == "3 cells within rows 0 to 2, columns 0 to 2 set to 0 to 0.7 in layer 1, the class token's row"
    )


def test_the_true_class_is_always_shown():
    p = torch.tensor([0.1, 0.3, 0.05, 0.2, 0.25, 0.06, 0.04])
    assert _most_probable(p, 3) == [1, 4, 3, 0, 5] and _most_probable(p, 6) == [1, 4, 3, 0, 6]


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
