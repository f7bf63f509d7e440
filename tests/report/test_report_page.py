"""The report: one file that needs nothing else, says what the figures say, in every language the same."""

import json
import re
import shutil

import pytest
import torch
from helpers.runs import save_checkpoint

from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.evaluation.evaluate import evaluate_run
from sigmoid_vit.report.build import PAGE, ReportOptions, texts, write_report
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import build_model

TEXTS = json.loads((PAGE / "texts.json").read_text("utf-8"))
TEMPLATE = (PAGE / "report.html").read_text("utf-8")
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def step_2(equal_sizes):
    """A second run on the same images: other weights, and edits that it learned from."""
    run = Run(equal_sizes.folder.with_name("step2"))
    shutil.copytree(equal_sizes.folder, run.folder, ignore=shutil.ignore_patterns("e*"))
    torch.manual_seed(7)
    save_checkpoint(run.best, {"model": build_model(run.settings(), 2).state_dict(), "epoch": 1})
    train = run.open_data().train
    maps = EditMaps.empty(len(train), (4, 4))
    maps.edited[:3, 0, :2] = True
    maps.propagated[2] = True
    maps.write(run.edits, train.ids)
    return run


@pytest.fixture(scope="module")
def pages(equal_sizes, step_2):
    """The page of the second run in both languages."""
    options = dict(run=str(step_2.folder), against=str(equal_sizes.folder), images=2, decision_maps=4)
    return {
        language: write_report(ReportOptions(language=language, **options)).read_text("utf-8")
        for language in ("en", "ja")
    }


def words(page):
    """The text of a page, as a person reads it."""
    text = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def test_every_text_is_there_in_both_languages_with_the_same_values_and_is_used():
    used = set(re.findall(r"\bt\('(\w+)'", TEMPLATE)) | set(re.findall(r"'(\w+)' (?:if|else)", TEMPLATE))
    used |= set(re.findall(r"else '(\w+)'", TEMPLATE)) | {"sum_trained", "sum_chosen", "fixed", "broken"}
    assert set(TEXTS) <= used
    for key, (english, japanese) in TEXTS.items():
        assert sorted(re.findall(r"{(\w+)}", english)) == sorted(re.findall(r"{(\w+)}", japanese)), key


def test_the_page_needs_nothing_but_itself(pages):
    for language, page in pages.items():
        assert f'<html lang="{language}">' in page
        assert not re.search(r"(?:src|href)=\"(?!data:)|url\(|@import|https?://", page)
        assert page.count("data:image/") > 10


def test_the_page_says_what_evaluate_says(pages, equal_sizes, step_2):
    found = evaluate_run(
        step_2.folder, against=str(equal_sizes.folder), errors=0, faithfulness=0, decision_maps=0
    )
    change, text = found["comparison"], words(pages["en"])
    assert f"right on {round(found['top1'] * 8)} of 8 images: {100 * found['top1']:.1f}" in text
    assert f"{len(change['fixed'])} errors of {equal_sizes.folder.name} were fixed" in text
    d = change["difference"]["top1"]
    assert f"{100 * d['difference']:+.1f} points ({100 * d['low']:+.1f} … {100 * d['high']:+.1f})" in text
    assert "2 of 12 training images have edits by people or from masks, and 1 have propagated ones" in text
    assert ("Majority classifier" in text) == (found["predicted_classes"] == 1)


def test_the_languages_say_the_same_numbers(pages):
    numbers = [sorted(re.findall(r"\d+\.\d+", words(page))) for page in pages.values()]
    assert numbers[0] == numbers[1]
    assert "何が間違っているか" in pages["ja"] and "傷" in pages["en"]


def test_names_are_text_and_nothing_else(equal_sizes, tmp_path, monkeypatch):
    monkeypatch.setattr("sigmoid_vit.report.content.strongest_cell", lambda effect: (HOSTILE, 0))
    out = tmp_path / "page.html"
    write_report(ReportOptions(run=str(equal_sizes.folder), out=str(out), images=1, decision_maps=1))
    page = out.read_text("utf-8")
    assert HOSTILE not in page and "&lt;script&gt;" in page
    assert texts("en")("changed_none") in page
    assert texts("en")("edited_none") in page
