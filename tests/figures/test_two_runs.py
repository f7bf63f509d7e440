"""Two runs in pictures: outcomes where they belong, the edit between the maps before and after."""

import pytest
import torch
from helpers.figures import images, maps, saved, within

from sigmoid_vit.figures.two_runs import Maps, draw_before_after, draw_outcomes


def some_maps(B):
    return Maps(maps(B, 3, 3) - 0.5, maps(B, 3, 3))


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
    *found, value = maps(5, 2, 3, 3)
    before, after = Maps(20 * found[0] - 3, found[1]), Maps(found[2] - 0.5, found[3])
    edited = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 1]]).bool().repeat(2, 1, 1)
    texts = ["ハシブトガラス\nbefore: 001.Black_footed_Albatross_with_a_long_name (97%)", "test/1"]
    figure = draw_before_after(images(2), before, after, texts, "前 against 後", (value, edited))
    *shown, scale = figure.axes
    names = ["image", "decision before", "attention before", "edit", "decision after", "attention after"]
    assert [ax.get_title() for ax in shown[:6]] == names
    assert len(shown) == 12
    assert scale.get_ylim() == (0, 1)
    for row, i in ((shown[:6], 0), (shown[6:], 1)):
        for ax, values in zip((row[1], row[2], row[4], row[5]), (*before[:2], *after[:2]), strict=True):
            assert (ax.images[0].get_array() == values[i].numpy()).all()
        for ax, (decision, *_) in ((row[1], before), (row[4], after)):
            largest = decision[i].abs().max().item()
            assert ax.images[0].get_clim() == pytest.approx((-largest, largest))
            assert ax.get_xlabel() == f"±{largest:.2g} nats"
        assert {ax.images[0].get_clim() for ax in (row[2], row[3], row[5])} == {(0, 1)}
        drawn = row[3].images[0].get_array()
        assert (drawn.mask == ~edited[i].numpy()).all()
        assert (drawn.compressed() == value[i][edited[i]].numpy()).all()
        assert row[3].patch.get_hatch()
    saved(figure, tmp_path)


def test_without_an_edit_there_is_no_column_of_it():
    figure = draw_before_after(images(1), some_maps(1), some_maps(1), ["a"])
    assert "decision map, exact (" in figure.get_suptitle()
    known = draw_before_after(images(1), some_maps(1), some_maps(1)._replace(exact=False), ["a"])
    assert "decision map, exact and estimated (" in known.get_suptitle()
    names = ["decision before", "attention before", "decision after", "attention after"]
    assert [ax.get_title() for ax in figure.axes[1:5]] == names
    assert len(figure.axes) == 6


def test_edits_without_a_network_before(tmp_path):
    edits = maps(2, 3, 3), maps(2, 3, 3) > 0.5
    figure = draw_before_after(images(2), None, some_maps(2), ["a", "b"], edits=edits)
    assert [ax.get_title() for ax in figure.axes[:4]] == ["image", "edit", "decision", "attention"]
    assert "hatched" in figure.get_suptitle()
    everything = edits[0], torch.ones_like(edits[1])
    whole = draw_before_after(images(2), None, some_maps(2), ["a", "b"], edits=everything)
    assert "hatched" not in whole.get_suptitle()
    saved(figure, tmp_path)


def test_texts_of_two_runs_do_not_meet(tmp_path):
    text = "val/北の森のシジュウカラとハシブトガラスの雌の成鳥の写真集/0001_7961113.jpg\n" + "before: x\n" * 9
    figure = draw_before_after(images(3), some_maps(3), some_maps(3), [text] * 3)
    labels = [ax.yaxis.label for ax in figure.axes if "before: x" in ax.get_ylabel()]
    assert len(labels) == 3
    assert within(figure, *labels)
    above, middle, below = (label.get_window_extent() for label in labels)
    assert above.y0 > middle.y1
    assert middle.y0 > below.y1
    saved(figure, tmp_path)
