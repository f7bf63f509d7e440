"""The measurement of click to segment."""

import numpy as np
import pytest
from helpers.editing import make_run

from sigmoid_vit import UserError
from sigmoid_vit.annotations.sources import Source, own_masks
from sigmoid_vit.evaluation.click_regions import click_regions, most_inner_point
from sigmoid_vit.runs.network import Network


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Digits, whose masks are the ink: brighter than what surrounds it."""
    run = make_run(tmp_path_factory.mktemp("digits"))
    data, network = run.open_data(None), Network.of_run(run)
    part = data.part("val")
    return network, network.prepare(part), own_masks(data, part)


def test_ink_is_found_by_one_click_better_than_by_trivial_answers(digits):
    found = click_regions(*digits)
    assert {"region", "disc", "square", "clicked cell", "tokens after block 0"} <= set(found)
    for figures in found.values():
        assert figures["n"] == found["region"]["n"] > 20
        assert 0 < figures["mean"] <= 1 and figures["at_best"] <= 1
    means = {kind: figures["mean"] for kind, figures in found.items()}
    assert means["region"] > 0.1 + max(means["disc"], means["square"], means["clicked cell"])


def test_masks_that_are_squares_are_found_by_squares(digits):
    """Of a mask that is the clicked cell itself, the trivial answer is right, whatever the image shows."""
    network, part, _ = digits
    gh, gw = network.grid
    mask = np.zeros((gh, gw), np.float32)
    mask[2, 3] = 1
    found = click_regions(network, part, Source(lambda i: mask if i < 12 else None, "here"))
    assert found["clicked cell"]["mean"] == found["square"]["mean"] == 1
    mask[1:4, 2:5] = 1
    found = click_regions(network, part, Source(lambda i: mask if i < 12 else None, "here"))
    assert found["square"]["mean"] == found["square"]["at_best"] == 1
    assert found["clicked cell"]["mean"] == pytest.approx(1 / 9)
    assert found["square"]["std"] == pytest.approx(0)


def test_most_inner_point():
    mask = np.zeros((10, 20), bool)
    mask[0:3, 0:20], mask[3:9, 12:17] = True, True
    x, y = most_inner_point(mask)
    assert 12 < x * 20 < 17 and 1 < y * 10 < 8


def test_one_mask_alone_is_no_measurement(digits):
    network, part, _ = digits
    with pytest.raises(UserError, match="fewer than two images of val are marked in here"):
        click_regions(network, part, Source(lambda i: np.ones((6, 6)) if i == 3 else None, "here"))
