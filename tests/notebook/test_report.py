"""A report: which run it opens, and what its methods write, show or say instead."""

import os
import re
import shutil

import pytest
import torch
from helpers.notebook import numbers

from sigmoid_vit import UserError
from sigmoid_vit.figures import attention_maps
from sigmoid_vit.files import sealed, write_json
from sigmoid_vit.notebook.report import flat, new_folder, newest_run, open_report
from sigmoid_vit.runs.folder import Run


@pytest.fixture(scope="module")
def report(place):
    """Of the first run on its validation part, compared with nothing."""
    return open_report(place / "result/first", False, "val", result=place / "alone")


def test_what_there_is_not_is_said(report, capsys):
    capsys.readouterr()
    report.comparison()
    assert "no run to compare with; COMPARE_WITH" in capsys.readouterr().out
    assert not (report.folder / "outcomes.png").exists()
    report.edits()
    assert "learned from no edits" in capsys.readouterr().out
    assert not (report.folder / "edits.png").exists()
    with pytest.raises(UserError, match="no image 130; the part's images are numbered 0 to 129"):
        report.images(3, 130)


def test_the_environment_stands_in_for_the_first_cell(place, monkeypatch):
    monkeypatch.setenv("RESULT_DIR", str(place / "result/first"))
    monkeypatch.setenv("COMPARE_WITH", str(place / "result/second"))
    monkeypatch.setenv("SPLIT", "test_clean")
    report = open_report(result=place / "alone")
    assert report.run.folder == place / "result/first"
    assert report.predictions.part.part.name == "test_clean"
    assert report.before.network.name == "second"
    assert open_report(place / "result/second", False, result=place / "alone").before is None


def test_a_folder_of_runs_stands_for_the_newest(place, monkeypatch):
    monkeypatch.setenv("RESULT_DIR", str(place / "result"))  # as the training scripts understand it
    newest = newest_run(place / "result").folder
    assert open_report(compare_with=False, result=place / "alone").run.folder == newest
    monkeypatch.setenv("SPLIT", "holdout")
    with pytest.raises(UserError, match="no part 'holdout'"):
        open_report(compare_with=False, result=place / "alone")


def test_a_cell_that_runs_again_replaces_its_numbers(report):
    report.images(5)
    report.images(7)
    sections = numbers(report.folder)
    assert {name.split(".")[0] for name in sections["images"]} == {report.predictions.part.part.ids[7]}
    assert (report.folder / "result.txt").read_text().count("[images]") == 1


def test_all_images_that_were_asked_for_are_shown_in_all_layers(report, monkeypatch):
    drawn = []  # how many images, and the title

    def draw_layers(images, sigmoid, softmax, rollout, texts, title, query):
        drawn.append((len(images), title))

    monkeypatch.setattr(attention_maps, "draw_layers", draw_layers)
    monkeypatch.setattr(report, "_show", lambda *args: None)
    report.images(3, 4, 5, 6)
    report.errors(5)
    (four, by_number), (three, errors) = drawn
    assert four == 4
    assert "the first" not in by_number
    assert three == 3
    assert "errors, the first 3 of 5" in errors


def test_the_run_before_may_have_another_precision(place, tmp_path):
    """It is computed as precisely as the run itself: one process cannot have two precisions."""
    copy = shutil.copytree(place / "result/second", tmp_path / "second")
    config = Run(copy).facts()
    config["settings"]["precision"] = "bf16"
    write_json(copy / "config.json", sealed(config))
    report = open_report(place / "result/first", copy, "val", result=tmp_path)
    same = open_report(place / "result/first", place / "result/second", "val", result=tmp_path)
    assert torch.equal(report.before.probabilities, same.before.probabilities)


def test_the_run_trained_last_is_found(place, tmp_path):
    first, second = (place / "result" / name for name in ("first", "second"))
    assert newest_run(place / "result").folder == second
    os.utime(first / "last.pt")
    assert newest_run(place / "result").folder == first
    os.utime(second / "last.pt")
    with pytest.raises(UserError, match=r"no trained run in .*RESULT_DIR"):
        newest_run(tmp_path)


def test_the_run_that_step_2_started_from_is_found(place):
    first, second = (Run(place / "result" / name) for name in ("first", "second"))
    assert second.first_step().folder == first.folder
    assert first.first_step() is None


def test_every_report_has_a_folder_of_its_own(tmp_path):
    folders = [new_folder(tmp_path / "result") for _ in range(3)]
    assert len(set(folders)) == 3
    for folder in folders:
        assert re.fullmatch(r"result\d{8}_\d{4}(_[23])?", folder.name)
    assert re.fullmatch(r"result\d{8}_\d{4}", folders[0].name)


def test_texts_of_numbers():
    assert flat({"a": {"b": 1 / 3, "c": [1, None, 2.0]}, "d": torch.tensor([0.5]), "e": {}}) == {
        "a.b": "0.333333",
        "a.c": "1, None, 2",
        "d": "0.5",
        "e": "{}",
    }
