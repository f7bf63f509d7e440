"""Images that belong together: by name or by a file, never cut apart, and found where they look alike."""

import re

import numpy as np
import pytest
import torch
from helpers.images import make_folder
from helpers.runs import settings, train

from sigmoid_vit import UserError
from sigmoid_vit.data import Part, group_numbers, load_data, look_alikes
from sigmoid_vit.data.dataset import cut_validation
from sigmoid_vit.runs.folder import Run

IDS = ["train/a/p1_exp1.jpg", "train/a/p2_exp1.jpg", "train/b/p1_exp2.jpg"]


def test_groups_are_read_from_names_or_a_file(tmp_path):
    assert group_numbers(IDS, "").tolist() == [0, 1, 2]
    assert group_numbers(IDS, r"p(\d)_").tolist() == group_numbers(IDS, r"^p\d").tolist() == [0, 1, 0]
    table = tmp_path / "groups.csv"
    table.write_text("\ufeffimage,group\ntrain/a/p1_exp1.jpg,x\np2_exp1.jpg,y\np1_exp2.jpg,y\n", "utf-8")
    assert group_numbers(IDS, str(table)).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "group_by, words",
    [
        ("^p(1)", "^p(1) gives 1 of 3 images no group: train/a/p2_exp1.jpg"),
        ("p(", "p( is not a regular expression"),
        ("none.csv", "none.csv cannot be read"),
        ("two.csv", "two.csv needs a first line image,group"),
    ],
)
def test_images_of_no_group_are_refused(tmp_path, monkeypatch, group_by, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.csv").write_text("name,group\na,b\n")
    with pytest.raises(UserError, match=re.escape(words)):
        group_numbers(IDS, group_by)


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_keeps_groups_whole(seed):
    random = np.random.default_rng(seed)
    groups = random.integers(40, size=300)
    part = Part([str(i) for i in range(300)], groups % 3, ["a", "b", "c"])
    train, val = cut_validation(part, 0.2, seed, groups)
    assert sorted(map(int, train.ids + val.ids)) == list(range(300))
    sides = [{int(groups[int(i)]) for i in side.ids} for side in (train, val)]
    assert not sides[0] & sides[1]
    assert 0.1 < len(val) / 300 < 0.3
    assert set(val.labels) == {0, 1, 2}
    assert cut_validation(part, 0.2, seed, groups)[1].ids == val.ids


@pytest.mark.parametrize(
    "labels, fraction, words",
    [
        ([0, 0, 1, 1] * 3, 0.25, "one group .* too few .* in class b"),
        ([0, 1, 0, 1] * 3, 0.7, "leaves no train image of class"),
    ],
)
def test_a_cut_that_groups_do_not_allow_is_refused(labels, fraction, words):
    part = Part([str(i) for i in range(12)], np.array(labels), ["a", "b"])
    with pytest.raises(UserError, match=words):
        cut_validation(part, fraction, 0, np.array([0, 1, 2, 2] * 3))


def test_a_data_sets_own_validation_part_is_held_against_the_groups(tmp_path):
    make_folder(tmp_path, {"a": 3, "b": 3}, part="val")
    make_folder(tmp_path, {"a": 3, "b": 3})
    assert len(load_data("folder", tmp_path).val) == 6
    words = r"val holds images of groups that train has too, by --group_by .*: val/a/"
    with pytest.raises(UserError, match=words):
        load_data("folder", tmp_path, group_by=r"\d+")


def test_look_alikes_are_other_exposures_and_not_other_things():
    images = torch.randint(0, 256, (5, 3, 40, 40), dtype=torch.uint8)
    val = torch.stack([images[3] // 3 + 40, images[0].flip(-1), torch.full_like(images[0], 90)])

    def prepared(name, images):
        ids = [f"{name}/{i}" for i in range(len(images))]
        return Part(ids, np.zeros(len(ids), int), ["a"], images=images).prepare((40, 40))

    (found,) = look_alikes(prepared("val", val), prepared("train", images))
    assert found[:2] == ("val/0", "train/3")
    assert found[2] > 0.98


def test_a_run_tells_look_alikes_and_keeps_its_groups(tmp_path, capsys):
    run = train(tmp_path, "--epochs", "1")
    found = run.facts()["look_alikes"]
    assert found
    assert f"{len(found)} of 130 validation images look like a training image" in capsys.readouterr().out
    grouped = train(tmp_path, "--epochs", "1", "--runs_name", "grouped", "--group_by", r"\d$")
    grouped = Run(tmp_path / "grouped")
    val = grouped.open_data().val
    assert len({i[-1] for i in val.ids}) == 1
    assert grouped.settings().group_by == r"\d$"
    second = ["--first_step", str(grouped.folder), "--runs_name", "second", "--edits", "x"]
    assert settings(tmp_path, *second).group_by == r"\d$"
    with pytest.raises(UserError, match=r"GROUP_BY is .*, but FIRST_STEP cut"):
        settings(tmp_path, *second, "--group_by", "x")
