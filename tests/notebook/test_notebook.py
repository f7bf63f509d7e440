"""result.ipynb: it defines nothing, runs on any run, and its numbers are those of evaluate.py."""

import ast
import csv
import json
import shutil

import nbformat
import pytest
from helpers.notebook import numbers
from helpers.pictures import not_blank
from helpers.runs import ROOT
from nbclient import NotebookClient

from sigmoid_vit.evaluation.evaluate import evaluate_run
from sigmoid_vit.notebook.report import flat
from sigmoid_vit.runs.folder import Run

NAMES = ("RESULT_DIR", "COMPARE_WITH", "SPLIT", "DATASET_PATH")
OF_ONE_RUN = ["learning_curves", "top_k", "mpp_histogram", "per_class_accuracy"]
OF_ONE_RUN += ["confusion_matrix", "calibration"]
ATTENTION = [f"{name}{layers}" for name in ("errors", "hits", "images") for layers in ("", "_layers")]
OF_TWO_RUNS = ["outcomes", "fixed", "broken", "edits"]
SHOWN = [*OF_ONE_RUN, *ATTENTION, "insertion_deletion", *OF_TWO_RUNS]


def read_notebook():
    return nbformat.read(ROOT / "result.ipynb", as_version=4)


def code_cells(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def state(folder):
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def execute(book, place, **options):
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(place)}}, **options).execute()


# ---------------------------------------------------------------- as it is committed


def test_it_defines_nothing():
    forbidden = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.With
    for cell in code_cells(read_notebook()):
        found = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, forbidden)]
        assert not found, cell.source


def test_it_holds_no_outputs():
    book = read_notebook()
    nbformat.validate(book)
    for cell in code_cells(book):
        assert not cell.outputs, cell.source
        assert cell.execution_count is None, cell.source


def test_its_first_cell_chooses_nothing():
    first = ast.parse(code_cells(read_notebook())[0].source).body
    given = {node.targets[0].id: node.value.value for node in first}
    assert given == dict.fromkeys(NAMES) | {"OPEN_EDITOR": False}


# ---------------------------------------------------------------- executed


@pytest.fixture(scope="module")
def executed(place):
    """The notebook executed in `place` as it is, its folder of pictures, and the runs before and after.

    A DATASET_PATH in the environment is for the training scripts, not for the notebook.
    """
    result, book = place / "result", read_notebook()
    runs, there = [result / "first", result / "second"], set(result.iterdir())
    before = [state(run) for run in runs]
    with pytest.MonkeyPatch.context() as context:
        for name in NAMES:
            context.delenv(name, raising=False)
        context.setenv("DATASET_PATH", str(place / "nowhere"))
        execute(book, place)
    (folder,) = set(result.iterdir()) - there
    return book, folder, before, [state(run) for run in runs]


def test_it_runs_from_top_to_bottom(executed):
    book, _, before, after = executed
    outputs = [output for cell in code_cells(book) for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    text = "".join(o.text for o in outputs if o.output_type == "stream")
    assert "run: result/second" in text
    assert "compared with: result/first" in text
    assert "VBox" in str(outputs)
    assert "OPEN_EDITOR in the first cell is False" in str(outputs)
    assert len([o for o in outputs if "image/png" in o.get("data", {})]) == len(SHOWN)
    assert before == after


@pytest.mark.parametrize("name", [*SHOWN, "one_edit"])
def test_it_writes_every_picture(executed, name):
    folder = executed[1]
    assert not_blank(folder / f"{name}.png")
    assert (folder / f"{name}.pdf").stat().st_size > 1000


@pytest.fixture(scope="module")
def evaluated(executed, place):
    """The evaluation folder of the second run, written by evaluate.py after the notebook was executed."""
    second = place / "result/second"
    evaluate_run(second, against=str(place / "result/first"), decision_maps=10)
    return second / "evaluation"


@pytest.fixture(scope="module")
def sections(executed):
    """result.txt as {section: {name: text}}."""
    return numbers(executed[1])


@pytest.fixture(scope="module")
def metrics(evaluated):
    return json.loads((evaluated / "metrics.json").read_text())


def test_it_says_what_it_shows(sections):
    about = {"run": "result/second", "checkpoint": "best", "part": "test", "images": "500"}
    assert sections["run"] == {**about, "data": "embedded", "compared with": "result/first"}


def test_its_accuracies_are_those_of_evaluate(sections, metrics):
    for k in range(1, 6):
        assert float(sections["top_k"][f"top{k}"]) == pytest.approx(metrics[f"top{k}"], abs=1e-6), k
    assert float(sections["top_k"]["macro"]) == pytest.approx(metrics["macro_accuracy"], abs=1e-6)
    assert sections["per_class_accuracy"] == flat(metrics["per_class_accuracy"])
    assert sections["confusion_matrix"] == {
        str(k): ", ".join(map(str, row)) for k, row in enumerate(metrics["confusion_matrix"])
    }


def test_its_probabilities_are_those_of_evaluate(sections, metrics):
    for name in ("mean", "max", "min"):
        assert float(sections["mpp_histogram"][name]) == pytest.approx(metrics["mpp"][name], rel=1e-5), name
    bins = list(map(int, sections["mpp_histogram"]["images by bin"].split(", ")))
    assert len(bins) == 20
    assert sum(bins) == 500
    assert float(sections["calibration"]["ece"]) == pytest.approx(metrics["ece"], abs=1e-6)
    assert sections["calibration"]["images"] == flat(metrics["calibration"])["images"]


def test_its_figures_of_attention_are_those_of_evaluate(sections, metrics):
    assert sections["insertion_deletion"] == flat(metrics["attention"]["faithfulness"])
    assert sections["attention against masks"] == flat(metrics["attention"]["masks"])


def test_its_learning_curves_are_those_of_the_log(sections, place):
    history, curves = Run(place / "result/second").history(), sections["learning_curves"]
    assert curves["last epoch.loss"] == flat(history[-1])["loss"]
    assert curves["val_loss by epoch"] == ", ".join(f"{line['val_loss']:.6g}" for line in history)


def test_its_comparison_is_that_of_evaluate(sections, evaluated):
    change = json.loads((evaluated / "against_first/comparison.json").read_text())
    shown = sections["outcomes"]
    assert shown["n"] == "500"
    assert shown["fixed"] == str(len(change["fixed"]))
    assert shown["broken"] == str(len(change["broken"]))
    assert shown["mcnemar_p"] == f"{change['mcnemar_p']:.6g}"
    assert float(shown["accuracy.against"]) == pytest.approx(change["accuracy"]["against"])
    assert sections["fixed"]["images"] == ", ".join(change["fixed"][:6])


def test_a_fixed_image_has_the_predictions_of_evaluate(sections, evaluated):
    fixed = sections["fixed"]
    first = fixed["images"].split(", ")[0]
    rows = csv.DictReader((evaluated / "predictions.csv").open())
    (row,) = [row for row in rows if row["id"] == first]
    assert fixed[f"{first}.true"] == row["label"]
    assert fixed[f"{first}.after.prediction"] == row["prediction"] == row["label"]
    assert fixed[f"{first}.before.prediction"] != row["label"]
    p = float(fixed[f"{first}.after.probability of true"])
    assert p == pytest.approx(float(row[f"p({row['label']})"]), abs=1e-5)


def test_it_shows_the_edits_and_who_made_them(sections):
    edits = sections["edits"]
    assert edits["edited images"] == "40"
    assert edits["propagated"] == "0"
    assert {edits[f"{image_id}.edit"] for image_id in edits["images shown"].split(", ")} == {"edit by ink"}


def test_evaluate_draws_what_the_notebook_draws(evaluated):
    alone = {*OF_ONE_RUN, "errors", "errors_layers", "hits", "hits_layers", "one_edit", "insertion_deletion"}
    alone |= {"decisions", "confusions"}  # of evaluate.py only
    for suffix in ("png", "pdf"):
        assert {path.stem for path in evaluated.glob(f"*.{suffix}")} == alone
    assert {path.stem for path in (evaluated / "against_first").glob("*.png")} == set(OF_TWO_RUNS)
    for path in evaluated.rglob("*.png"):
        assert not_blank(path), path


# ---------------------------------------------------------------- mistakes


@pytest.mark.slow
def test_mistakes_are_one_sentence(place, tmp_path):
    """In a kernel, without a traceback; and a run without weights says what to do."""
    shutil.copytree(place / "result/first", tmp_path / "result/stopped", ignore=lambda *_: ["best.pt"])
    (tmp_path / "src").symlink_to(ROOT / "src")
    book = read_notebook()
    book.cells = code_cells(book)[:2]
    book.cells[0].source = book.cells[0].source.replace("None", "'result/stopped'", 1)
    execute(book, tmp_path, allow_errors=True)
    (error,) = [o for o in book.cells[1].outputs if o.output_type == "error"]
    (sentence,) = error.traceback
    assert sentence.startswith("error: result/stopped has no best.pt")
    assert "RESUME=true" in sentence
    assert "another run with --run (RESULT_DIR in the notebook)" in sentence
    assert "\n" not in sentence


def test_another_folder_is_recognised(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    cell = code_cells(read_notebook())[1]
    assert "this is not the repository's folder; %cd into it" in cell.source
    with pytest.raises(FileNotFoundError, match="src"):
        exec(cell.source, {})
