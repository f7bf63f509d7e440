"""What decides on many images: how often it is the same cell, beside chance, and for every class."""

from itertools import product

import numpy as np
import pytest
import torch
from helpers.figures import LONG, NAMES, images, maps, saved, within

from sigmoid_vit.figures.decisions import (
    Decided,
    alike,
    chance_of_one_cell,
    decided_text,
    draw_decided,
    draw_decision,
    most_bound,
)


def bound(n, of, cell=(1, 2)):
    """n maps on 3 x 4 cells, just `of` of them with this strongest cell."""
    found = maps(n, 3, 4)
    found[:, cell[0], cell[1]] = -1
    found[:of, cell[0], cell[1]] = 2 + torch.arange(of)
    return Decided("a → b", 2 * n, list(range(n)), found)


def test_a_cell_that_is_the_strongest_of_most_images_is_found_with_its_effect():
    numbers = bound(10, 9).numbers()
    assert numbers["cell"] == [1, 2]
    assert numbers["share"] == 0.9
    effect = bound(10, 9).maps[:, 1, 2]
    assert (numbers["mean"], numbers["sd"]) == pytest.approx((effect.mean().item(), effect.std().item()))
    assert (numbers["n"], numbers["images"]) == (10, 20)
    assert bound(1, 1).numbers()["sd"] is None
    assert "n = 10 of 20" in decided_text(numbers)
    assert most_bound([bound(10, 0), bound(10, 10)])[0].numbers()["share"] == 1


def test_chance_is_the_mean_share_of_the_most_frequent_of_random_cells():
    draws = [max(np.bincount(cells)) / 3 for cells in product(range(4), repeat=3)]
    assert chance_of_one_cell(3, 4) == pytest.approx(np.mean(draws), abs=0.02)
    assert chance_of_one_cell(1, 9) == 1


def test_the_images_looked_at_are_of_every_class_alike():
    classes = np.repeat([0, 1, 2], [50, 7, 1])
    assert np.bincount(classes[alike(classes, 9)]).tolist() == [4, 4, 1]
    assert np.bincount(classes[alike(classes, 2)]).tolist() == [1, 1, 1]  # at least one of each
    assert len(alike(classes, 1000)) == 58


@pytest.mark.parametrize("count", [1, 7])
def test_groups_of_any_name_and_number_are_drawn(tmp_path, count):
    groups = [bound(4, 3) for _ in range(count)]
    groups[0].name = " → ".join(NAMES[:2])
    figure = draw_decided(groups, [images(1)[0].float()] * count, LONG)
    assert within(figure, figure._suptitle, *(axes.xaxis.label for axes in figure.axes))
    saved(figure, tmp_path)
    saved(draw_decision(images(1)[0], bound(1, 1).maps[0], NAMES[0]), tmp_path)
