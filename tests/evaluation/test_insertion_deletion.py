"""Insertion and deletion: on paper, of large grids, and from a blurred image."""

import numpy as np
import pytest
import torch
from helpers.reference import tiny_model
from helpers.runs import settings
from sklearn.metrics import auc

from sigmoid_vit.data import load_data
from sigmoid_vit.evaluation import insertion_deletion
from sigmoid_vit.evaluation.insertion_deletion import cells_of, faithfulness, probability_curve
from sigmoid_vit.runs.network import Network


class ReadsOneCell:
    """Says class 1 with probability 0.8 when the lower left cell of 2 x 2 is there, else with 0.2."""

    cell_size = (2, 3)

    def __call__(self, images):
        there = images[:, 0, 2:4, :3].abs().amin((1, 2)) > 0
        p = torch.where(there, 0.8, 0.2)
        return torch.stack([(1 - p).log(), p.log()], 1)


@pytest.mark.parametrize("right", [True, False])
def test_curves_on_paper(right):
    maps = torch.tensor([[[0.3, 0.2], [0.9, 0.1]]])
    maps, image, one = (maps if right else 1 - maps), torch.ones(1, 3, 4, 6), torch.tensor([1])
    k = 1 if right else 4  # the cell that decides is the first to be touched, or the last
    deletion = probability_curve(ReadsOneCell(), image, 0 * image, maps, one)[0].tolist()
    insertion = probability_curve(ReadsOneCell(), 0 * image, image, maps, one)[0].tolist()
    assert deletion == pytest.approx([0.8] * k + [0.2] * (5 - k))
    assert insertion == pytest.approx([0.2] * k + [0.8] * (5 - k))
    share = np.linspace(0, 1, 5)  # 0.8 to 0.2 within the first quarter, or within the last
    assert auc(share, deletion) == pytest.approx(0.275 if right else 0.725)
    assert auc(share, insertion) == pytest.approx(0.725 if right else 0.275)


def test_cells_are_their_pixels_alone():
    images, hidden = torch.ones(1, 3, 5, 6), torch.tensor([[[False, True], [True, False]]])
    expected = torch.ones(5, 6)  # cells of 2 x 3; no patch reads the fifth row
    expected[:2, 3:], expected[2:4, :3] = 0, 0
    assert torch.equal(cells_of(0 * images, images, hidden, (2, 3)), expected.expand(1, 3, 5, 6))
    assert (images == 1).all()
    small = torch.ones(1, 3, 3, 6)
    padded = cells_of(0 * small, small, hidden, (2, 3))  # the network pads it to 4 rows
    assert padded[0, 0].tolist() == [[1, 1, 1, 0, 0, 0]] * 2 + [[0, 0, 0, 1, 1, 1]]


def test_a_large_grid_is_computed_where_its_curve_changes(monkeypatch):
    """A third of the passes finds, cell by cell, the curve and the area that all of them do."""
    model = tiny_model(img_size=112)  # a 14 x 14 grid
    images, maps = torch.randn(3, 3, 112, 112), torch.rand(3, 14, 14)
    classes, passes, forward = torch.tensor([0, 3, 4]), [], model.forward

    def counted(x):
        passes.append(len(x))
        return forward(x)

    monkeypatch.setattr(model, "forward", counted)
    with torch.no_grad():
        found = probability_curve(model, images, 0 * images, maps, classes)
        assert len(passes) == insertion_deletion.POINTS
        monkeypatch.setattr(insertion_deletion, "EVERY_CELL", 196)
        every = probability_curve(model, images, 0 * images, maps, classes)
    assert len(passes) == insertion_deletion.POINTS + 197
    assert (found == every).sum(1).min() >= insertion_deletion.POINTS
    areas = [np.trapezoid(curve, dx=1 / 196, axis=1) for curve in (found.numpy(), every.numpy())]
    assert areas[0] == pytest.approx(areas[1], abs=0.01)


def test_insertion_can_start_from_the_blurred_image(tmp_path):
    network = Network(tiny_model(), settings(tmp_path, "--img_size", "32"), list("abcde"))
    part, positions = network.prepare(load_data("digits_decoy").val.subset(range(4))), np.arange(4)
    mean, blur = (faithfulness(network, part, positions, 4, start) for start in ("mean", "blur"))
    for order in ("decision", "sigmoid", "rollout", "random"):
        assert mean[order]["deletion_curve"] == blur[order]["deletion_curve"]
        assert mean[order]["insertion_curve"][-1] == pytest.approx(blur[order]["insertion_curve"][-1])
        assert mean[order]["insertion_curve"][0] != pytest.approx(blur[order]["insertion_curve"][0], abs=1e-3)
