"""Two runs in pictures: outcomes where they belong, the edit between the attention before and after."""

import torch
from helpers.figures import images, maps, saved, within

from sigmoid_vit.figures.two_runs import draw_before_after, draw_outcomes


def test_outcomes_stand_where_they_belong(tmp_path):
    change = {"n": 20, "fixed": list("abc"), "broken": ["d"], "both_right": 9, "both_wrong": 7}
    change |= {"accuracy": {"run": 0.6, "against": 0.5}, "mcnemar_p": 0.625}
    figure = draw_outcomes(change, "title")
    texts = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert texts == {
        (0, 0): "9\nright both times",
        (1, 0): "1\nbroken",
        (0, 1): "3\nfixed",
        (1, 1): "7\nwrong both times",
    }
    assert "p = 0.62" in figure.get_suptitle()
    assert figure.axes[0].get_xlabel() == "after: accuracy 0.600"
    saved(figure, tmp_path)


def test_the_edit_is_drawn_between_before_and_after(tmp_path):
    before, after, value = maps(3, 2, 3, 3)
    edited = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 1]]).bool().repeat(2, 1, 1)
    texts = ["ハシブトガラス\nbefore: 001.Black_footed_Albatross_with_a_long_name (97%)", "test/1"]
    figure = draw_before_after(images(2), before, after, texts, "前 against 後", (value, edited))
    *shown, scale = figure.axes
    assert [ax.get_title() for ax in shown[:4]] == ["image", "attention before", "edit", "attention after"]
    assert len(shown) == 8
    assert scale.get_ylim() == (0, 1)
    for row, i in ((shown[:4], 0), (shown[4:], 1)):
        assert {ax.images[0].get_clim() for ax in row[1:]} == {(0, 1)}
        for ax, values in ((row[1], before), (row[3], after)):
            assert (ax.images[0].get_array() == values[i].numpy()).all()
        drawn = row[2].images[0].get_array()
        assert (drawn.mask == ~edited[i].numpy()).all()
        assert (drawn.compressed() == value[i][edited[i]].numpy()).all()
        assert row[2].patch.get_hatch()
    saved(figure, tmp_path)


def test_without_an_edit_there_is_no_column_of_it():
    figure = draw_before_after(images(1), maps(1, 3, 3), maps(1, 3, 3), ["a"])
    assert [ax.get_title() for ax in figure.axes[:3]] == ["image", "attention before", "attention after"]
    assert len(figure.axes) == 4


def test_edits_without_a_network_before(tmp_path):
    edits = maps(2, 3, 3), maps(2, 3, 3) > 0.5
    figure = draw_before_after(images(2), None, maps(2, 3, 3), ["a", "b"], edits=edits)
    assert [ax.get_title() for ax in figure.axes[:3]] == ["image", "edit", "attention"]
    assert "hatched" in figure.get_suptitle()
    everything = edits[0], torch.ones_like(edits[1])
    whole = draw_before_after(images(2), None, maps(2, 3, 3), ["a", "b"], edits=everything)
    assert "hatched" not in whole.get_suptitle()
    saved(figure, tmp_path)


def test_texts_of_two_runs_do_not_meet(tmp_path):
    text = "val/北の森のシジュウカラとハシブトガラスの雌の成鳥の写真集/0001_7961113.jpg\n" + "before: x\n" * 9
    figure = draw_before_after(images(3), maps(3, 3, 3), maps(3, 3, 3), [text] * 3)
    labels = [ax.yaxis.label for ax in figure.axes if "before: x" in ax.get_ylabel()]
    assert len(labels) == 3
    assert within(figure, *labels)
    above, middle, below = (label.get_window_extent() for label in labels)
    assert above.y0 > middle.y1
    assert middle.y0 > below.y1
    saved(figure, tmp_path)
