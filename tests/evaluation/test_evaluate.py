"""What evaluate.py writes: figures that another library agrees with, and pictures that show something."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pictures import not_blank
from helpers.runs import ROOT, train
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

from sigmoid_vit import UserError, answers, plots
from sigmoid_vit.evaluation.evaluate import evaluate_run
from sigmoid_vit.evaluation.metrics import classification_metrics
from sigmoid_vit.runs.ranking import confident_errors


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("evaluation"), "--epochs", "3")


def test_the_script_writes_figures_predictions_and_pictures(run):
    command = [sys.executable, str(ROOT / "src/evaluate.py"), "--run", str(run.folder)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    out = run.folder / "evaluation"
    metrics = json.loads((out / "metrics.json").read_text())
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert metrics["split"] == "test" and metrics["n"] == len(rows) == 500
    assert f"top1 {metrics['top1']:.4f}" in result.stdout

    p = np.array([[float(row[f"p({c})"]) for c in run.classes] for row in rows])
    labels = np.array([run.classes.index(row["label"]) for row in rows])
    assert np.allclose(p.sum(1), 1, atol=1e-4) and rows[3]["id"] == "test/3"
    assert [row["prediction"] for row in rows] == [run.classes[k] for k in p.argmax(1)]
    for k in range(1, 6):
        assert metrics[f"top{k}"] == pytest.approx(
            top_k_accuracy_score(labels, p, k=k, labels=range(10)), abs=0.003
        )
    assert metrics["confusion_matrix"] == confusion_matrix(labels, p.argmax(1)).tolist()
    true_class = p[np.arange(500), labels]
    expected = {"mean": true_class.mean(), "max": true_class.max(), "min": true_class.min()}
    assert metrics["mpp"] == pytest.approx(expected, abs=1e-5)
    assert metrics["per_class_accuracy"]["7"] == pytest.approx((p.argmax(1) == 7)[labels == 7].mean())
    masks, curves = metrics["attention"]["masks"], metrics["attention"]["faithfulness"]
    assert f"last layer {masks['sigmoid']['2']['epg']:.3f}" in result.stdout and masks["n"] == 500
    assert f"rollout {curves['rollout']['insertion_auc']:.3f}" in result.stdout and curves["n"] == 50
    for name in ("confusion_matrix", "mpp_histogram", "errors", "insertion_deletion"):
        assert not_blank(out / f"{name}.png") and (out / f"{name}.pdf").stat().st_size > 1000


def test_other_parts_get_folders_of_their_own(run):
    clean = evaluate_run(run.folder, "test_clean")
    assert json.loads((run.folder / "evaluation/test_clean/metrics.json").read_text()) == {
        name: value for name, value in clean.items() if name != "folder"
    }
    assert evaluate_run(run.folder, "val")["n"] == 130
    best = max(line["val_accuracy"] for line in run.history())
    assert evaluate_run(run.folder, "val")["top1"] == pytest.approx(best)
    last = evaluate_run(run.folder, "val", which="last")
    assert last["top1"] == pytest.approx(run.history()[-1]["val_accuracy"])
    assert last["folder"] == str(run.folder / "evaluation/val/last")


def test_bad_requests_are_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "predict", None)  # before anything is predicted
    with pytest.raises(UserError, match=r"no part 'holdout'.*\(SPLIT in the notebook\).*test_train_like"):
        evaluate_run(run.folder, "holdout")
    with pytest.raises(UserError, match="is not a run"):
        evaluate_run(tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        evaluate_run(run.folder, masks=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"--masks and --edits both.*give one"):
        evaluate_run(run.folder, masks=str(tmp_path), edits=str(tmp_path / "edits.sqlite"))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "best.pt"):
        (copy / name).write_bytes((run.folder / name).read_bytes())
    with pytest.raises(UserError, match=r"copy has no last\.pt.*--run \(RESULT_DIR in the notebook\)"):
        evaluate_run(copy, which="last")
    damaged = bytearray((copy / "best.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (copy / "best.pt").write_bytes(damaged)
    with pytest.raises(UserError, match=r"best\.pt is damaged"):
        evaluate_run(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        evaluate_run(copy)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 30), K=st.integers(2, 8), seed=st.integers(0, 99))
def test_metrics_hold_for_any_predictions(n, K, seed):
    g = torch.Generator().manual_seed(seed)
    p, labels = torch.rand(n, K, generator=g).softmax(1), torch.randint(K, (n,), generator=g)
    metrics = classification_metrics(p, labels, [f"class {k}" for k in range(K)])
    tops = [metrics[f"top{k}"] for k in range(1, min(5, K) + 1)]
    assert tops == sorted(tops) and tops[0] == pytest.approx((p.argmax(1) == labels).float().mean().item())
    assert f"top{K + 1}" not in metrics and (K > 5 or tops[-1] == 1)
    assert sum(map(sum, metrics["confusion_matrix"])) == n and 0 <= metrics["ece"] <= 1
    absent = set(range(K)) - set(labels.tolist())
    assert all((metrics["per_class_accuracy"][f"class {k}"] is None) == (k in absent) for k in range(K))
    json.dumps(metrics, allow_nan=False)


def test_calibration_error_on_paper():
    """Ten predictions of confidence 0.8, seven right: the gap is 0.1."""
    p = torch.tensor([[0.8, 0.2]]).repeat(10, 1)
    labels = torch.tensor([0] * 7 + [1] * 3)
    assert classification_metrics(p, labels, ["a", "b"])["ece"] == pytest.approx(0.1, abs=1e-6)


def test_confident_errors_come_first():
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]])
    assert confident_errors(p, torch.tensor([0, 0, 0, 1]), 5) == [1, 2]
    assert confident_errors(p, torch.tensor([0, 0, 0, 1]), 1) == [1]


@pytest.mark.parametrize("K", [2, 25, 200])
def test_confusion_matrices_of_every_size(tmp_path, K):
    counts = np.random.RandomState(0).randint(0, 9, (K, K))
    plots.save(plots.confusion_matrix(counts, [f"鳥{k}" for k in range(K)]), Path(tmp_path) / "matrix")
    assert not_blank(tmp_path / "matrix.png")
