"""One edit in a picture: what it sets, where it is in force, and the probabilities with and without it."""

import pytest
import torch
from helpers.figures import NAMES, images, maps, saved
from helpers.reference import tiny_model

from sigmoid_vit import AttentionEdit
from sigmoid_vit.figures.one_edit import _edit_text, _most_probable, _reaches, draw_edit_effect


def one_cell():
    """What is drawn of an edit of the cell in row 1, column 2."""
    own, under, edited = maps(4, 4), maps(4, 4) / 2, torch.zeros(4, 4, dtype=torch.bool)
    edited[1, 2] = True
    before, after = torch.tensor([0.2, 0.7, 0.0]), torch.tensor([0.8, 0.1, 0.0])
    return images(1)[0], own, under, edited, before, after, [NAMES[1], NAMES[0], NAMES[3]]


def test_an_edit_and_its_effect(tmp_path):
    figure = draw_edit_effect(*one_cell(), true=2)
    bars = figure.axes[3]
    assert [label.get_text() for label in bars.get_yticklabels()] == [NAMES[1], NAMES[0], "<b> (true)"]
    widths = [bar.get_width() for bar in bars.patches]
    assert widths == pytest.approx([0.2, 0.7, 0.0, 0.8, 0.1, 0.0])
    (frame,) = figure.axes[2].patches
    assert frame.get_xy() == (1.5, 0.5)
    assert not figure.axes[1].patches
    saved(figure, tmp_path)


def test_the_patch_whose_attention_is_shown_is_framed():
    figure = draw_edit_effect(*one_cell(), query=(3, 0))
    frames = [{patch.get_xy() for patch in axes.patches} for axes in figure.axes[:3]]
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
    where = "3 cells within rows 0 to 2, columns 0 to 2"
    assert text == f"{where} set to 0 to 0.7 in layer 1, the class token's row"


def test_the_true_class_is_always_shown():
    p = torch.tensor([0.1, 0.3, 0.05, 0.2, 0.25, 0.06, 0.04])
    assert _most_probable(p, 3) == [1, 4, 3, 0, 5]
    assert _most_probable(p, 6) == [1, 4, 3, 0, 6]


@pytest.mark.parametrize(
    "layers, queries, layer, query, reached",
    [
        ("all", "all", "last", None, True),
        ("all", "all", 0, 5, True),
        ("all", "cls", 0, None, True),
        ("all", "cls", 0, 5, False),
        (2, "all", "last", 5, True),
        (2, "all", 0, 5, False),
    ],
)
def test_which_maps_an_edit_reaches(layers, queries, layer, query, reached):
    model, value = tiny_model(), torch.zeros(1, 4, 4)  # of three layers
    edit = AttentionEdit(value, value == 0, layers, queries=queries)
    assert _reaches(edit, model, layer, query) == reached
