"""result.ipynb: it defines nothing, runs on any run, and its numbers are those of evaluate.py."""

import ast
import csv
import json
import os
import re
import shutil

import ipywidgets
import nbformat
import numpy as np
import pytest
import torch
from helpers.runs import ROOT, settings
from nbclient import NotebookClient
from PIL import Image, ImageStat

from sigmoid_vit import AttentionEdit, UserError, plots
from sigmoid_vit.annotations.import_options import ImportOptions
from sigmoid_vit.annotations.importing import import_edits
from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.evaluation.evaluate import evaluate_run
from sigmoid_vit.figures.training_edits import _whose
from sigmoid_vit.notebook.report import first_step, flat, new_folder, newest_run, open_report
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network
from sigmoid_vit.training.trainer import Trainer

NAMES = ("RESULT_DIR", "COMPARE_WITH", "SPLIT", "DATASET_PATH")
OF_ONE_RUN = ["learning_curves", "top_k", "mpp_histogram", "per_class_accuracy"]
OF_ONE_RUN += ["confusion_matrix", "calibration"]
LOOKS = [f"{name}{layers}" for name in ("errors", "hits", "images") for layers in ("", "_layers")]
OF_TWO_RUNS = ["outcomes", "fixed", "broken", "edits"]
SHOWN = [*OF_ONE_RUN, *LOOKS, "insertion_deletion", *OF_TWO_RUNS]


def read_notebook():
    return nbformat.read(ROOT / "result.ipynb", as_version=4)


def not_blank(path):
    image = Image.open(path).convert("RGB")
    return image.getcolors(20) is None and max(ImageStat.Stat(image).stddev) > 5


def state(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def numbers(folder):
    """result.txt as {section: {name: text}}."""
    sections = {}
    for line in (folder / "result.txt").read_text().splitlines():
        if line.startswith("["):
            section = sections[line[1:-1]] = {}
        elif line:
            name, _, text = line.partition(" = ")
            section[name] = text
    return sections


def execute(book, place, **options):
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(place)}}, **options).execute()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as a clone of the repository is after Step 1 and Step 2: src/ and result/{first,second}."""
    place = tmp_path_factory.mktemp("clone")
    (place / "src").symlink_to(ROOT / "src")
    (place / "result.ipynb").symlink_to(ROOT / "result.ipynb")
    result, store = place / "result", str(place / "edits.sqlite")
    Trainer(settings(result, "--runs_name", "first", "--epochs", "3")).fit()
    first = str(result / "first")
    import_edits(ImportOptions("ink", run=first, edits=store, mask_edit="both", count=40))
    options = ["--first_step", first, "--edits", store, "--epochs", "4"]
    Trainer(settings(result, "--runs_name", "second", *options)).fit()
    return place


@pytest.fixture(scope="module")
def executed(place):
    """The notebook executed there as it is, its folder of pictures, and the state of the runs before.

    Another data set that the trainers were told of through the environment is not meant for it.
    """
    before, book = state(place / "result"), read_notebook()
    with pytest.MonkeyPatch.context() as context:
        for name in NAMES:
            context.delenv(name, raising=False)
        context.setenv("DATASET_PATH", str(place / "nowhere"))
        execute(book, place)
    (folder,) = set(place.glob("result/result2*")) - set(before)
    return book, folder, before


def test_the_committed_notebook_defines_nothing_and_holds_no_outputs():
    forbidden = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.With
    book = read_notebook()
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    for cell in code:
        assert not cell.outputs and cell.execution_count is None
        found = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, forbidden)]
        assert not found, cell.source
    first = ast.parse(code[0].source).body
    given = {node.targets[0].id: node.value.value for node in first}
    assert given == dict.fromkeys(NAMES) | {"OPEN_EDITOR": False}


def test_it_runs_top_to_bottom_and_shows_every_picture(executed):
    book, folder, before = executed
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    shown = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(shown) == len(SHOWN)
    for name in (*SHOWN, "one_edit"):
        assert not_blank(folder / f"{name}.png"), name
        assert (folder / f"{name}.pdf").stat().st_size > 1000
    text = "".join(o.text for o in outputs if o.output_type == "stream")
    assert "run: result/second" in text and "compared with: result/first" in text
    assert "VBox" in str(outputs) and "OPEN_EDITOR in the first cell is False" in str(outputs)
    runs = [folder.parent / name for name in ("first", "second")]
    assert {path: time for path, time in before.items() if path in runs or path.parent in runs} == {
        path: time for run in runs for path, time in (state(run) | {run: run.stat().st_mtime_ns}).items()
    }


@pytest.fixture(scope="module")
def evaluated(executed, place):
    """The second run, evaluated after the notebook was executed as evaluate.py does it."""
    second = place / "result/second"
    evaluate_run(second, against=place / "result/first")
    return second


def test_its_numbers_are_those_of_evaluate(executed, evaluated):
    sections, out = numbers(executed[1]), evaluated / "evaluation"
    metrics = json.loads((out / "metrics.json").read_text())
    about = {"run": "result/second", "checkpoint": "best", "part": "test", "images": "500"}
    assert sections["run"] == {**about, "data": "embedded", "compared with": "result/first"}
    for k in range(1, 6):
        assert float(sections["top_k"][f"top{k}"]) == pytest.approx(metrics[f"top{k}"], abs=1e-6)
    assert float(sections["top_k"]["macro"]) == pytest.approx(metrics["macro_accuracy"], abs=1e-6)
    for name in ("mean", "max", "min"):
        assert float(sections["mpp_histogram"][name]) == pytest.approx(metrics["mpp"][name], rel=1e-5)
    assert sections["per_class_accuracy"] == flat(metrics["per_class_accuracy"])
    assert sections["confusion_matrix"] == {
        str(k): ", ".join(map(str, row)) for k, row in enumerate(metrics["confusion_matrix"])
    }
    assert float(sections["calibration"]["ece"]) == pytest.approx(metrics["ece"], abs=1e-6)
    assert sections["calibration"]["images"] == flat(metrics["calibration"])["images"]
    curves, masks = metrics["attention"]["faithfulness"], metrics["attention"]["masks"]
    assert sections["insertion_deletion"] == flat(curves)
    assert sections["attention against masks"] == flat(masks)
    history = Run(evaluated).history()
    assert sections["learning_curves"]["last epoch.loss"] == flat(history[-1])["loss"]
    losses = sections["learning_curves"]["val_loss by epoch"]
    assert losses == ", ".join(f"{line['val_loss']:.6g}" for line in history)
    bins = list(map(int, sections["mpp_histogram"]["images by bin"].split(", ")))
    assert len(bins) == 20 and sum(bins) == 500

    change = json.loads((out / "against_first/comparison.json").read_text())
    shown = sections["outcomes"]
    assert (shown["n"], shown["fixed"], shown["broken"]) == (
        "500",
        str(len(change["fixed"])),
        str(len(change["broken"])),
    )
    assert shown["mcnemar_p"] == f"{change['mcnemar_p']:.6g}"
    assert float(shown["accuracy.against"]) == pytest.approx(change["accuracy"]["against"])
    assert sections["fixed"]["images"] == ", ".join(change["fixed"][:6])
    first, rows = change["fixed"][0], csv.DictReader((out / "predictions.csv").open())
    (row,) = [row for row in rows if row["id"] == first]
    told = {name: sections["fixed"][f"{first}.{name}"] for name in ("true", "after.answer", "before.answer")}
    assert told["true"] == told["after.answer"] == row["label"] != told["before.answer"]
    held = float(sections["fixed"][f"{first}.after.probability of true"])
    assert held == pytest.approx(float(row[f"p({row['label']})"]), abs=1e-5)
    edits = sections["edits"]
    assert edits["edited images"] == "40" and edits["predicted"] == "0"
    assert {edits[f"{image_id}.edit"] for image_id in edits["images shown"].split(", ")} == {"edit by ink"}


def test_evaluate_draws_what_the_notebook_draws(evaluated):
    out = evaluated / "evaluation"
    alone = {*OF_ONE_RUN, "errors", "errors_layers", "hits", "hits_layers", "one_edit", "insertion_deletion"}
    assert {path.stem for path in out.glob("*.png")} == {path.stem for path in out.glob("*.pdf")} == alone
    assert {path.stem for path in (out / "against_first").glob("*.png")} == set(OF_TWO_RUNS)
    assert all(not_blank(path) for path in out.rglob("*.png"))


@pytest.fixture(scope="module")
def report(place):
    """Of the first run on its validation part, compared with nothing."""
    return open_report(place / "result/first", False, "val", result=place / "alone")


def test_what_there_is_not_is_said(report, capsys):
    capsys.readouterr()
    report.comparison()
    report.edits()
    said = capsys.readouterr().out
    assert "no run to compare with; COMPARE_WITH" in said and "learned from no edits" in said
    assert not (report.folder / "outcomes.png").exists() and not (report.folder / "edits.png").exists()
    with pytest.raises(UserError, match="no image 130; the part's images are numbered 0 to 129"):
        report.images(3, 130)


def test_the_environment_stands_in_for_the_first_cell(place, monkeypatch):
    monkeypatch.setenv("RESULT_DIR", str(place / "result/first"))
    monkeypatch.setenv("COMPARE_WITH", str(place / "result/second"))
    monkeypatch.setenv("SPLIT", "test_clean")
    report = open_report(result=place / "alone")
    assert report.run.folder == place / "result/first" and report.answers.part.part.name == "test_clean"
    assert report.before.network.name == "second"
    assert open_report(place / "result/second", False, result=place / "alone").before is None
    monkeypatch.setenv("RESULT_DIR", str(place / "result"))  # as the trainers understand it
    newest = newest_run(place / "result").folder
    assert open_report(compare_with=False, result=place / "alone").run.folder == newest
    monkeypatch.setenv("SPLIT", "holdout")
    with pytest.raises(UserError, match="no part 'holdout'"):
        open_report(compare_with=False, result=place / "alone")


def test_a_cell_that_runs_again_replaces_its_numbers(report):
    report.images(5)
    report.images(7)
    sections = numbers(report.folder)
    assert {name.split(".")[0] for name in sections["images"]} == {report.answers.part.part.ids[7]}
    assert (report.folder / "result.txt").read_text().count("[images]") == 1


def test_all_images_that_were_asked_for_are_shown_in_all_layers(report, monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "attention_layers", lambda images, *args: shown.append((len(images), args[4])))
    monkeypatch.setattr(report, "_show", lambda *args: None)
    report.images(3, 4, 5, 6)
    report.errors(5)
    (four, by_number), (three, errors) = shown
    assert (four, three) == (4, 3) and "by number" in by_number and "errors, the first 3 of 5" in errors


def test_mistakes_are_one_sentence(place, tmp_path):
    """In a kernel, without a traceback; and a run without weights says what to do."""
    shutil.copytree(place / "result/first", tmp_path / "result/stopped", ignore=lambda *_: ["best.pt"])
    (tmp_path / "src").symlink_to(ROOT / "src")
    book = read_notebook()
    book.cells = [cell for cell in book.cells if cell.cell_type == "code"][:2]
    book.cells[0].source = book.cells[0].source.replace("None", "'result/stopped'", 1)
    execute(book, tmp_path, allow_errors=True)
    (error,) = [o for o in book.cells[1].outputs if o.output_type == "error"]
    (told,) = error.traceback
    assert told.startswith("error: result/stopped has no best.pt") and "RESUME=true" in told
    assert "another run with --run (RESULT_DIR in the notebook)" in told and "\n" not in told


def test_another_folder_is_known(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    cell = [cell for cell in read_notebook().cells if cell.cell_type == "code"][1]
    assert "this is not the repository's folder; %cd into it" in cell.source
    with pytest.raises(FileNotFoundError, match="src"):
        exec(cell.source, {})


def test_an_edit_that_is_not_the_stored_one_has_no_author(place):
    maps = EditMaps.read(
        place / "result/second/edits.npz", Run(place / "result/second").open_data().train.ids
    )
    at = np.flatnonzero(maps.has_edit)[:3]
    ids = [Run(place / "result/second").open_data().train.ids[i] for i in at]
    shown = maps.subset(at)
    shown.edited[1], shown.predicted[2] = ~shown.edited[1], True
    store = str(place / "edits.sqlite")
    assert _whose(store, ids, shown) == ["edit by ink", "edit", "predicted edit"]
    assert _whose(str(place / "nowhere.sqlite"), ids, shown) == ["edit", "edit", "predicted edit"]


def test_the_run_before_may_have_another_precision(place, tmp_path):
    """It is computed as precisely as the run itself: one process cannot have two precisions."""
    copy = shutil.copytree(place / "result/second", tmp_path / "second")
    config = json.loads((copy / "config.json").read_text())
    config["settings"]["precision"] = "bf16"
    (copy / "config.json").write_text(json.dumps(config))
    report = open_report(place / "result/first", copy, "val", result=tmp_path)
    same = open_report(place / "result/first", place / "result/second", "val", result=tmp_path)
    assert torch.equal(report.before.probabilities, same.before.probabilities)


def test_runs_and_folders_are_found(place, tmp_path):
    first, second = (place / "result" / name for name in ("first", "second"))
    assert newest_run(place / "result").folder == second
    os.utime(first / "last.pt")
    assert newest_run(place / "result").folder == first
    os.utime(second / "last.pt")
    assert first_step(Run(second)).folder == first and first_step(Run(first)) is None
    with pytest.raises(UserError, match=r"no trained run in .*RESULT_DIR"):
        newest_run(tmp_path)
    folders = [new_folder(tmp_path / "result") for _ in range(3)]
    assert len(set(folders)) == 3 and re.fullmatch(r"result\d{8}_\d{4}", folders[0].name)
    assert all(re.fullmatch(r"result\d{8}_\d{4}(_[23])?", folder.name) for folder in folders)


def test_the_widgets_answer_as_the_network_does(report):
    network = Network(report.run)
    with torch.no_grad():  # answers that depend on attention
        network.model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
        for block in network.model.blocks:
            block.attn.qkv.weight.mul_(15)
    answers = network.answer(report.answers.part)
    touch = Touch(answers)
    assert isinstance(touch.widget, ipywidgets.VBox)
    seen = {touch.view.value}
    touch.image.value, touch.layer.value, touch.head.value, touch.query.value = 11, 1, 0, 8
    touch.rows.value, touch.columns.value, touch.value.value = (2, 4), (0, 1), 0.7
    value, edited = torch.zeros(1, 6, 6), torch.zeros(1, 6, 6, dtype=torch.bool)
    value[0, 2:5, :2], edited[0, 2:5, :2] = 0.7, True
    for layers, queries, scope in (("all", "all", "all"), ("this", "all", 1), ("this", "cls", 1)):
        touch.layers.value, touch.queries.value = layers, queries
        seen.add(touch.view.value)
        with torch.no_grad():
            edit = AttentionEdit(value, edited, scope, queries=queries)
            x = answers.inputs([11])
            expected = [network.model(x).softmax(1)[0], network.model(x, edit=edit).softmax(1)[0]]
        bars = [label.get_text().split()[0] for label in touch.picture.figure.axes[3].get_yticklabels()]
        told = touch.picture.numbers
        assert list(told["probability"]) == bars and told["true"] in bars
        assert (
            f"rows 2 to 4, columns 0 to 1 set to 0.7 in {'all layers' if layers == 'all' else 'layer 1'}, "
            in (told["edit"])
        )
        assert told["attention shown"] == "layer 1, head 0, patch at row 1, column 2"
        title = touch.picture.figure.get_suptitle()
        assert told["edit"] in title and told["attention shown"] in title
        for k, name in enumerate(network.classes):
            if told := touch.picture.numbers["probability"].get(name):
                assert told["without the edit"].item() == pytest.approx(expected[0][k].item(), abs=1e-5)
                assert told["with the edit"].item() == pytest.approx(expected[1][k].item(), abs=1e-5)
    assert len(seen) == 4 and touch.picture.numbers["image"] == answers.part.part.ids[11]
    assert (expected[0] - expected[1]).abs().max() > 1e-3


def test_texts_of_numbers():
    assert flat({"a": {"b": 1 / 3, "c": [1, None, 2.0]}, "d": torch.tensor([0.5]), "e": {}}) == {
        "a.b": "0.333333",
        "a.c": "1, None, 2",
        "d": "0.5",
        "e": "{}",
    }
