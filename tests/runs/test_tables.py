"""Tables over seeds: mean and sd on paper, every run named, a run per seed that can be taken up again."""

import csv
import json
import statistics

import pytest
from helpers.runs import settings, untrained_run

from sigmoid_vit import UserError
from sigmoid_vit.runs.command_line import SettingsParser
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.tables import evaluated, pairs, summary, table_text, write_table
from sigmoid_vit.training.trainer import train


def metrics_of(folder, split, top1, default=False):
    place = folder / "evaluation" / ("" if default else split)
    place.mkdir(parents=True)
    (place / "metrics.json").write_text(json.dumps({"split": split, "top1": top1, "mpp": {"mean": top1 / 2}}))


def test_mean_and_sd_on_paper():
    figures = summary({"a": [1.0, 2.0, 4.5], "b": [0.25]})
    assert figures["a"]["mean"] == 2.5
    assert figures["a"]["n"] == 3
    assert figures["a"]["sd"] == pytest.approx(((1.5**2 + 0.5**2 + 2**2) / 2) ** 0.5)
    assert figures["b"] == {"mean": 0.25, "sd": None, "n": 1}
    assert "| row | 2.5000 ± 1.8028 | 3 |" in table_text({"row": {"a": [1.0, 2.0, 4.5]}})


def test_a_table_of_evaluated_runs(tmp_path):
    for seed, top1 in enumerate((0.5, 0.7)):
        metrics_of(tmp_path / f"full_s{seed}", "test", top1, default=True)
        metrics_of(tmp_path / f"full_s{seed}", "test_clean", top1 / 5)
    metrics_of(tmp_path / "one", "test", 0.1, default=True)
    metrics_of(tmp_path / "one", "test_clean", 0.2)
    metrics = {"decoy": "test:top1", "clean": "test_clean:top1", "mpp": "test:mpp.mean"}
    rows = {
        name: evaluated(str(tmp_path / runs), metrics) for name, runs in (("full", "full_s*"), ("one", "one"))
    }
    report = write_table(tmp_path / "out" / "table.json", rows)
    means = json.loads((tmp_path / "out/table.json").read_text())
    assert means["full"] == pytest.approx({"decoy": 0.6, "clean": 0.12, "mpp": 0.3})
    assert means["one"] == pytest.approx({"decoy": 0.1, "clean": 0.2, "mpp": 0.05})
    assert report == (tmp_path / "out/table.md").read_text()
    assert "0.6000 ± 0.1414" in report
    assert str(tmp_path / "full_s1") in report
    with (tmp_path / "out/table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 9
    assert {line["run"] for line in lines if line["row"] == "one"} == {str(tmp_path / "one")}


def test_differences_are_those_of_runs_of_one_seed(tmp_path):
    """Seeds 1, 2, 3 gain 0.1, 0.2, 0.3: mean 0.2, sd 0.1, and Student's t of two degrees is 4.3027."""
    rows = {"before": {}, "after": {}, "one": {}}
    values = {"before": {1: 0.5, 2: 0.4, 3: 0.1}, "after": {3: 0.4, 1: 0.6, 2: 0.6}, "one": {2: 0.3}}
    for name, by_seed in values.items():
        for seed, top1 in by_seed.items():
            run = untrained_run(tmp_path, "--runs_name", f"{name}_{seed}", "--seed", str(seed))
            rows[name][str(run.folder)] = {"top1": top1}
    report = write_table(tmp_path / "table", rows, "before")
    half = 4.302653 * 0.1 / 3**0.5
    assert f"| after | +0.2000 [{0.2 - half:+.4f}, {0.2 + half:+.4f}] | 3 |" in report
    assert "| one | -0.1000 | 1 |" in report
    assert "The rows differ in n: before 3, after 3, one 1." in report
    with pytest.raises(UserError, match="'none' is no row; the rows are before, after, one"):
        write_table(tmp_path / "table", rows, "none")
    del rows["after"]
    rows["before"].popitem()
    run = untrained_run(tmp_path, "--runs_name", "other", "--seed", "9")
    rows["one"] = {str(run.folder): {"top1": 0.3}}
    with pytest.raises(UserError, match="one and before have no run of the same seed"):
        write_table(tmp_path / "table", rows, "before")


def test_what_a_table_lacks_is_named(tmp_path):
    metrics_of(tmp_path / "run", "test", 0.5, default=True)
    with pytest.raises(
        UserError, match=r"not evaluated on val: python3 src/evaluate\.py --run .*run --split val"
    ):
        evaluated(str(tmp_path / "run"), {"a": "val:top1"})
    with pytest.raises(UserError, match=r"no figure 'top9'; its keys: split, top1, mpp"):
        evaluated(str(tmp_path / "run"), {"a": "test:top9"})
    with pytest.raises(UserError, match=r"nothing_s. was not evaluated"):
        evaluated(str(tmp_path / "nothing_s*"), {"a": "test:top1"})
    with pytest.raises(UserError, match="--rows 'full' is not of the form NAME=VALUE"):
        pairs(["a=b", "full"], "--rows")


def runs(folder, *args):
    base = [
        "--dataset",
        "digits_decoy",
        "--result_dir",
        str(folder),
        "--runs_name",
        "vit.tiny",
        "--epochs",
        "1",
    ]
    return SettingsParser("").parse_seeds([*base, *args])


def test_seeds_are_runs_of_their_own(tmp_path):
    alone = settings(tmp_path, "--epochs", "1", "--runs_name", "vit.tiny")
    assert runs(tmp_path) == ([alone], "")
    train(*runs(tmp_path, "--seeds", "0"))
    assert "| 1 |" in (tmp_path / "vit.tiny_seeds.md").read_text()  # one seed is a table as well
    train(*runs(tmp_path, "--seeds", "0,3", "--resume"))
    folders = [tmp_path / "vit.tiny_s0", tmp_path / "vit.tiny_s3"]
    assert [Run(folder).settings().seed for folder in folders] == [0, 3]
    accuracy = [Run(folder).history()[0]["val_accuracy"] for folder in folders]
    table = json.loads((tmp_path / "vit.tiny_seeds.json").read_text())["vit.tiny_seeds"]
    assert table["val_accuracy"] == pytest.approx(statistics.fmean(accuracy))
    with pytest.raises(UserError, match=r"vit.tiny_s3 already exists"):
        train(*runs(tmp_path, "--seeds", "5,3"))
    assert not (tmp_path / "vit.tiny_s5").exists()  # refused before the work
    train(*runs(tmp_path, "--seeds", "0,3,5", "--resume"))
    assert "| 3 |" in (tmp_path / "vit.tiny_seeds.md").read_text()


def test_seeds_fill_paths_and_are_checked(tmp_path):
    train(*runs(tmp_path, "--seeds", "1,2"))
    second, _ = runs(
        tmp_path,
        "--seeds",
        "1,2",
        "--first_step",
        str(tmp_path / "vit.tiny_s{seed}"),
        "--edits",
        "e{seed}.sqlite",
    )
    assert [s.edits for s in second] == ["e1.sqlite", "e2.sqlite"]
    assert [s.pretrained for s in second] == [str(tmp_path / f"vit.tiny_s{i}/best.pt") for i in (1, 2)]
    for wrong in ("0-3", "a", "1,,2"):
        with pytest.raises(UserError, match=r"SEEDS is .*; it must be numbers"):
            runs(tmp_path, "--seeds", wrong)
    for twice in ("0,00", "1,2,1"):
        with pytest.raises(UserError, match="names a seed twice"):
            runs(tmp_path, "--seeds", twice)
