"""Pairs of runs: differences on paper, intervals that shrink and hold, seeds that belong together."""

import numpy as np
import pytest
import torch
from helpers.runs import untrained_run

from sigmoid_vit import UserError
from sigmoid_vit.evaluation.paired import Outcomes, difference_text, paired_differences, paired_runs


def outcomes(before, after, labels):
    return Outcomes(torch.tensor(before).bool(), torch.tensor(after).bool(), torch.tensor(labels))


def random_outcomes(n, p_before, p_after, seed):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    return Outcomes(torch.rand(n, generator=g) < p_before, torch.rand(n, generator=g) < p_after, labels)


def test_differences_on_paper():
    """Class 0 has one of two fixed, class 2 one of one broken; nothing has class 1."""
    found = paired_differences([outcomes([0, 1, 1, 1, 1], [1, 1, 0, 1, 1], [0, 0, 2, 3, 3])])
    assert (found["n"], found["pairs"]) == (5, 1)
    assert found["top1"]["difference"] == 0
    assert found["macro_accuracy"]["difference"] == pytest.approx((1 / 2 - 1) / 3)


def test_several_pairs_are_averaged():
    pairs = [random_outcomes(200, 0.4, 0.6, seed) for seed in range(3)]
    found, each = paired_differences(pairs), [paired_differences([pair]) for pair in pairs]
    for name in ("top1", "macro_accuracy"):
        alone = [one[name]["difference"] for one in each]
        assert found[name]["by_pair"] == pytest.approx(alone)
        assert found[name]["difference"] == pytest.approx(np.mean(alone))
    expected = [(p.after.double().mean() - p.before.double().mean()).item() for p in pairs]
    assert found["top1"]["by_pair"] == pytest.approx(expected)


def test_the_interval_is_that_of_the_mean():
    """For one pair, the middle 95 % of a bootstrap are about 1.96 standard errors to both sides."""
    pair = random_outcomes(2000, 0.5, 0.6, 0)
    found = paired_differences([pair])["top1"]
    error = pair.gain.std() / np.sqrt(2000)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert found["low"] < found["difference"] < found["high"]


def test_pairs_that_differ_widen_the_interval():
    same = [random_outcomes(1000, 0.5, 0.6, seed) for seed in range(4)]
    other = [random_outcomes(1000, 0.5, p, seed) for seed, p in enumerate((0.3, 0.5, 0.7, 0.9))]
    narrow, wide = (paired_differences(pairs)["top1"] for pairs in (same, other))
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


def test_the_same_network_differs_by_nothing():
    right = random_outcomes(50, 0.5, 0.5, 0).before
    found = paired_differences([Outcomes(right, right, torch.arange(50) % 3)])
    assert found["top1"]["low"] == found["top1"]["high"] == 0
    assert "top1 +0.0 [+0.0, +0.0], macro +0.0 [+0.0, +0.0] points" in difference_text(found)


def test_other_images_are_refused():
    with pytest.raises(UserError, match="hold different images"):
        paired_differences([random_outcomes(10, 0.5, 0.5, 0), random_outcomes(12, 0.5, 0.5, 0)])


def test_runs_are_paired_by_their_seed(tmp_path):
    for name, seed in (("a_x", 3), ("a_y", 1), ("b_x", 1), ("b_y", 3), ("b_z", 5)):
        untrained_run(tmp_path, "--runs_name", name, "--seed", str(seed))
    a, b = f"{tmp_path}/a_*", f"{tmp_path}/b_*"
    names = [(run.folder.name, other and other.folder.name) for run, other in paired_runs(a, b)]
    assert names == [("a_x", "b_y"), ("a_y", "b_x")]
    one = [(run.folder.name, other.folder.name) for run, other in paired_runs(a, f"{tmp_path}/b_z")]
    assert one == [("a_x", "b_z"), ("a_y", "b_z")]
    assert paired_runs(str(tmp_path / "a_x"), None)[0][1] is None
    with pytest.raises(UserError, match=r"b_z cannot be paired: .*a_\* has no run of its seed"):
        paired_runs(b, a)
    with pytest.raises(UserError, match="give a pattern for both"):
        paired_runs(f"{tmp_path}/a_x", b)
    untrained_run(tmp_path, "--runs_name", "b_w", "--seed", "5")
    with pytest.raises(UserError, match="several runs of one seed"):
        paired_runs(a, b)
