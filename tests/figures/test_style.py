"""How texts are cut and broken, and that a title fits its figure whatever the run is called."""

import pytest
from helpers.figures import LONG, images, maps, within

from sigmoid_vit.figures.attention_maps import draw_heads, draw_layers
from sigmoid_vit.figures.classification import (
    draw_calibration,
    draw_confusion_matrix,
    draw_mpp_histogram,
    draw_per_class_accuracy,
    draw_top_k,
)
from sigmoid_vit.figures.faithfulness import draw_insertion_deletion
from sigmoid_vit.figures.learning_curves import draw_learning_curves
from sigmoid_vit.figures.style import columns, short, wrapped
from sigmoid_vit.figures.two_runs import Maps, draw_before_after, draw_outcomes

MPP = {"mean": 0.5, "max": 1.0, "min": 0.0}
CHANGE = {"accuracy": {"run": 0.6, "against": 0.5}, "n": 2, "fixed": [], "broken": []}
CHANGE |= {"both_right": 1, "both_wrong": 1, "mcnemar_p": 1.0}
BINS = {"confidence": [0.7], "accuracy": [0.5], "images": [2]}
CURVE = {"insertion_auc": 0.5, "deletion_auc": 0.5, "insertion_curve": [0, 1], "deletion_curve": [1, 0]}
CURVES = {"share": [0, 1], "n": 2, **dict.fromkeys(("decision", "sigmoid", "rollout", "random"), CURVE)}
ONE, HISTORY = maps(1, 2, 3, 3), [{"epoch": 1, "loss": 2.0, "accuracy": 0.25}]


def test_wide_characters_count_double():
    assert short("シジュウカラ", 12) == "シジュウカラ"
    assert short("シジュウカラ", 11) == "シジュウカ…"
    assert short("woodpecker", 9) == "woodpeck…"
    assert columns("シa…") == 4
    text = wrapped("答え シジュウカラ\n\ntest/1.png is right", 8)
    assert text == "答え\nシジュウ\nカラ\n\ntest/1.p\nng is\nright"


@pytest.mark.parametrize(
    "draw, given",
    [
        (draw_learning_curves, (HISTORY, 1)),
        (draw_top_k, ({"top1": 0.5},)),
        (draw_per_class_accuracy, ({"a": 0.5}, [2])),
        (draw_confusion_matrix, ([[1, 0], [1, 1]], "ab")),
        (draw_mpp_histogram, (maps(9), MPP)),
        (draw_calibration, (BINS, 0.1)),
        (draw_insertion_deletion, (CURVES,)),
        (draw_outcomes, (CHANGE,)),
        (draw_before_after, (images(1), Maps(ONE[0], ONE[0]), Maps(ONE[0], ONE[0]), ["a"])),
        (draw_heads, (images(1), ONE[:, 0], ONE, ["a"])),
        (draw_layers, (images(1), ONE, ONE, ONE[:, 0], ["a"])),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_titles_fit_the_figure(draw, given):
    """A title in more lines makes the figure taller."""
    figure, usual = draw(*given, title=f"{LONG} against {LONG}"), draw(*given, title="run")
    assert within(figure, figure._suptitle)
    assert LONG[:20] in figure.get_suptitle()
    assert "against" in figure.get_suptitle()
    assert figure.get_figheight() > usual.get_figheight()
