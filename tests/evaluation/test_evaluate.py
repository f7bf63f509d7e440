"""What evaluate.py writes: figures that another library agrees with, and pictures that show something."""

import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers.pictures import not_blank
from helpers.runs import ROOT, train
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

from sigmoid_vit import UserError
from sigmoid_vit.evaluation.evaluate import evaluate_run, report
from sigmoid_vit.runs.network import Network


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("evaluation"), "--epochs", "3")


@pytest.fixture(scope="module")
def written(run):
    """What the script prints, and the content of metrics.json and predictions.csv."""
    command = [
        sys.executable,
        str(ROOT / "src/evaluate.py"),
        "--run",
        str(run.folder),
        "--decision_maps",
        "10",
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    out = run.folder / "evaluation"
    metrics = json.loads((out / "metrics.json").read_text())
    return result.stdout, metrics, list(csv.DictReader((out / "predictions.csv").open()))


def test_the_script_writes_figures_that_scikit_learn_agrees_with(run, written):
    _, metrics, rows = written
    p = np.array([[float(row[f"p({c})"]) for c in run.classes] for row in rows])
    labels = np.array([run.classes.index(row["label"]) for row in rows])
    assert np.allclose(p.sum(1), 1, atol=1e-4)
    assert [row["prediction"] for row in rows] == [run.classes[k] for k in p.argmax(1)]
    for k in range(1, 6):
        expected = top_k_accuracy_score(labels, p, k=k, labels=range(10))
        assert metrics[f"top{k}"] == pytest.approx(expected, abs=0.003), k
    assert metrics["confusion_matrix"] == confusion_matrix(labels, p.argmax(1)).tolist()
    true_class = p[np.arange(500), labels]
    expected = {"mean": true_class.mean(), "max": true_class.max(), "min": true_class.min()}
    assert metrics["mpp"] == pytest.approx(expected, abs=1e-5)
    assert metrics["per_class_accuracy"]["7"] == pytest.approx((p.argmax(1) == 7)[labels == 7].mean())


def test_the_script_writes_a_row_for_every_image(written):
    _, metrics, rows = written
    assert metrics["split"] == "test"
    assert metrics["n"] == len(rows) == 500
    assert rows[3]["id"] == "test/3"


def test_the_script_prints_its_figures(written):
    printed, metrics, _ = written
    masks, curves = metrics["attention"]["masks"], metrics["attention"]["faithfulness"]
    assert masks["n"] == 500
    assert curves["n"] == 50
    assert f"top1 {metrics['top1']:.4f}" in printed
    assert f"last layer {masks['sigmoid']['2']['epg']:.3f}" in printed
    assert f"rollout {curves['rollout']['insertion_auc']:.3f}" in printed


@pytest.mark.parametrize("name", ["confusion_matrix", "mpp_histogram", "errors", "insertion_deletion"])
def test_the_script_draws_pictures(run, written, name):
    assert not_blank(run.folder / f"evaluation/{name}.png")
    assert (run.folder / f"evaluation/{name}.pdf").stat().st_size > 1000


def test_other_parts_get_folders_of_their_own(run):
    clean = evaluate_run(run.folder, "test_clean", errors=0, faithfulness=2, decision_maps=0)
    assert json.loads((run.folder / "evaluation/test_clean/metrics.json").read_text()) == {
        name: value for name, value in clean.items() if name != "folder"
    }


def test_figures_of_images_that_had_a_say_in_the_network_say_so(run):
    def told(split, which="best"):
        metrics = evaluate_run(run.folder, split, checkpoint=which, errors=0, faithfulness=0, decision_maps=0)
        return metrics["seen"], [line for line in report(metrics) if "images" in line and "epoch" in line]

    assert told("val") == ("chosen", ["these images chose the epoch that was kept: new ones may do worse"])
    assert told("val", "last") == (None, [])
    assert told("test_clean") == (None, [])
    step_2 = replace(run.settings(), edits="edits.sqlite", first_step="result/first")
    assert step_2.seen("val") is None  # it keeps the latest epoch
    assert step_2.seen("train") == "trained"


@pytest.mark.slow
def test_the_best_and_the_last_checkpoint_are_those_of_the_log(run):
    scores = [line["val_accuracy"] for line in run.history()]
    few = dict(errors=0, faithfulness=0, decision_maps=0)
    best, last = (evaluate_run(run.folder, "val", checkpoint=which, **few) for which in ("best", "last"))
    assert best["n"] == 130
    assert best["top1"] == pytest.approx(max(scores))
    assert last["top1"] == pytest.approx(scores[-1])
    assert best["folder"] == str(run.folder / "evaluation/val")
    assert last["folder"] == str(run.folder / "evaluation/val/last")


@pytest.mark.parametrize(
    "options, says",
    [
        (dict(split="holdout"), r"no part 'holdout'.*\(SPLIT in the notebook\).*test_train_like"),
        (dict(masks="nowhere"), "there is no folder"),
        (dict(masks=".", edits="edits.sqlite"), r"--masks and --edits both.*give one"),
        (dict(faithfulness=-1), "--faithfulness is -1; it must be at least 0"),
        (dict(checkpoint="first"), "--checkpoint is 'first'; it must be one of best, last"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_predicted(run, monkeypatch, options, says):
    monkeypatch.setattr(Network, "logits", None)
    with pytest.raises(UserError, match=says):
        evaluate_run(run.folder, **options)


def test_runs_that_are_incomplete_or_damaged_are_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Network, "logits", None)  # before anything is predicted
    with pytest.raises(UserError, match="is not a run"):
        evaluate_run(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "images.csv", "best.pt"):
        (copy / name).write_bytes((run.folder / name).read_bytes())
    with pytest.raises(UserError, match=r"copy has no last\.pt.*--run \(RESULT_DIR in the notebook\)"):
        evaluate_run(copy, checkpoint="last")
    damaged = bytearray((copy / "best.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (copy / "best.pt").write_bytes(damaged)
    with pytest.raises(UserError, match=r"best\.pt is damaged"):
        evaluate_run(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        evaluate_run(copy)
