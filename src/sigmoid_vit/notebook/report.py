"""The library side of result.ipynb: each of its cells is one call of a `Report`.

report = open_report("result/demo_HITL", compare_with="result/demo")
report.calibration()  # shows the picture and writes it, with its numbers, into the report's own folder
"""

import os
import time
from pathlib import Path

from IPython.display import Image, display
from torch import Tensor

from sigmoid_vit.annotations.marked import marked_cells
from sigmoid_vit.data import DataModule
from sigmoid_vit.errors import UserError
from sigmoid_vit.evaluation.attention_quality import attention_quality, summary
from sigmoid_vit.evaluation.comparison import compare_predictions
from sigmoid_vit.evaluation.metrics import classification_metrics
from sigmoid_vit.figures.attention_maps import LAYERS_SHOWN, attention_pictures
from sigmoid_vit.figures.classification import classification_pictures
from sigmoid_vit.figures.faithfulness import faithfulness_picture
from sigmoid_vit.figures.learning_curves import learning_curves
from sigmoid_vit.figures.style import Picture, save
from sigmoid_vit.figures.training_edits import training_edits
from sigmoid_vit.figures.two_runs import changed_pictures, outcomes_picture
from sigmoid_vit.files import write_atomically
from sigmoid_vit.notebook.widget import EditWidget
from sigmoid_vit.runs.comparable import open_networks
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Predictions

PIXELS_PER_INCH = 96  # of a picture on the page
COMPARISON = "There is no run to compare with; COMPARE_WITH in the first cell names one."


def open_report(
    run_dir: str | None = None,
    compare_with: str | bool | None = None,
    split: str | None = None,
    dataset_path: str | None = None,
    result: str | Path = "result",
) -> "Report":
    """A report on a run, with a folder of its own for its pictures and numbers.

    What is None is taken from the environment where RESULT_DIR, COMPARE_WITH or SPLIT is set there.

    Args:
        run_dir: the run's folder, or a folder of runs for the one trained last in it; None for `result`.
        compare_with: the run before; None for the one that Step 2 started from, where it still is; False for
            none.
        split: "train", "val" or a test part; None for "test", or "val" in a data set without a test part.
        dataset_path: where the data set is now, if it was moved.
        result: the folder of all runs, in which the report's folder is made.

    Raises:
        UserError: there is no such run, data set or part, or the two runs cannot be compared.
    """
    run_dir = Path(_given("RESULT_DIR", run_dir) or result)
    compare_with, split = _given("COMPARE_WITH", compare_with), _given("SPLIT", split)
    run = (
        newest_run(run_dir) if any(run_dir.glob("*/config.json")) or run_dir == Path(result) else Run(run_dir)
    )
    run_before = run.first_step() if compare_with is None else Run(compare_with) if compare_with else None
    data, part, network, former = open_networks(run, run_before, split, dataset_path=dataset_path)
    predictions = network.predict(network.prepare(part))
    before = former.predict(former.prepare(part)) if former else None
    report = Report(data, predictions, before, new_folder(result))
    print("\n".join(f"{name}: {value}" for name, value in report.about.items()))
    print(f"pictures and numbers: {report.folder}")
    return report


class Report:
    """The pictures of a run, shown in a notebook and written as PNG and PDF, with result.txt beside them.

    Args:
        data: the run's data set.
        predictions: of the run's network for the images of one part.
        before: the predictions of the network before for the same images, if there is one.
        folder: where everything goes.
    """

    def __init__(
        self, data: DataModule, predictions: Predictions, before: Predictions | None, folder: Path
    ) -> None:
        self.data, self.predictions, self.before, self.folder = data, predictions, before, folder
        self.run, p = predictions.network.run, predictions
        self.metrics = classification_metrics(p.probabilities, p.labels, self.run.classes)
        self._pictures = classification_pictures(predictions, self.metrics)
        self._sections = {}
        self.about = {
            "run": self.run.folder,
            "checkpoint": predictions.network.which,
            "part": predictions.part.part.name,
            "images": len(predictions.part),
            "data": data.root.resolve() if data.root else "embedded",
            "compared with": before.network.run.folder if before else "no run",
        }
        self._write("run", self.about)

    def settings(self) -> None:
        """What the run was made with: settings, versions, data, and what became of its edits."""
        facts = self.run.facts()
        hidden = ("settings", "classes", "skipped")
        about = {name: value for name, value in facts.items() if name not in hidden}
        about |= {"classes": len(facts["classes"]), "skipped images": len(facts.get("skipped", []))}
        lines = flat({**about, "settings": facts["settings"]})
        self._write("settings", lines)
        width = max(map(len, lines)) + 2
        print("\n".join(f"{name:<{width}}{value}" for name, value in lines.items()))

    def learning_curves(self) -> None:
        """Loss and accuracy by epoch."""
        self._show("learning_curves", learning_curves(self.run), "The run has no log of its epochs.")

    def top_k(self) -> None:
        """Top-1 to top-5 and macro accuracy."""
        self._show("top_k", self._pictures["top_k"])

    def mpp_histogram(self) -> None:
        """The probability of the true class: histogram, density, mean, max and min."""
        self._show("mpp_histogram", self._pictures["mpp_histogram"])

    def per_class_accuracy(self) -> None:
        """The accuracy of every class, or of the worst of many."""
        self._show("per_class_accuracy", self._pictures["per_class_accuracy"])

    def confusion_matrix(self) -> None:
        """Which class is taken for which."""
        self._show("confusion_matrix", self._pictures["confusion_matrix"])

    def calibration(self) -> None:
        """Whether the network is as sure as it is right."""
        self._show("calibration", self._pictures["calibration"])

    def errors(self, count: int = 6) -> None:
        """The attention behind the most confident errors."""
        chosen = self.predictions.confident_errors(count)
        self._attention("errors", chosen, "most confident errors", "There is no error.", LAYERS_SHOWN)

    def hits(self, count: int = 6) -> None:
        """The attention behind the surest hits."""
        chosen = self.predictions.surest_hits(count)
        self._attention("hits", chosen, "surest hits", "No prediction is right.", LAYERS_SHOWN)

    def images(self, *chosen: int) -> None:
        """The attention behind the images at these positions, 0 being the first of the part."""
        n = len(self.predictions.part)
        if outside := [i for i in chosen if not 0 <= i < n]:
            raise UserError(f"there is no image {outside[0]}; the part's images are numbered 0 to {n - 1}")
        self._attention("images", list(chosen), "images by number", "No image was asked for.")

    def insertion_deletion(self, images: int = 50) -> None:
        """How the prediction follows the cells that attention names; and attention against masks, if any."""
        p, network = self.predictions, self.predictions.network
        marked = marked_cells(self.data, p.part.part, network.grid)
        quality = attention_quality(network, p.part, marked, network.batch_size, images)
        self._show("insertion_deletion", faithfulness_picture(p, quality["faithfulness"]))
        if masks := quality.get("masks"):
            self._write("attention against masks", masks)
        print("\n".join(summary(quality)))

    def comparison(self, count: int = 6) -> None:
        """What changed since the run before: the table with McNemar's test, fixed and broken images."""
        before, after = self.before, self.predictions
        if before is None:
            print(COMPARISON)
            return
        ids, title = after.part.part.ids, f"{after.title} against {before.network.name}"
        change = compare_predictions(before.probabilities, after.probabilities, after.labels, ids)
        self._show("outcomes", outcomes_picture(change, title))
        for name, drawn in changed_pictures(before, after, change, count).items():
            self._show(name, drawn, f"No image was {name}.")

    def edits(self) -> None:
        """Training images with the edit they had in Step 2, and what decided before and after it."""
        former = self.before.network if self.before else None
        drawn = training_edits(self.predictions.network, former, self.data.train)
        self._show("edits", drawn, "The run learned from no edits.")

    def try_edit(self) -> None:
        """The method to try: write a value into the map and see the prediction change."""
        tried = EditWidget(self.predictions)
        self._show("one_edit", tried.picture, shown=False)
        display(tried.widget)

    def _attention(
        self, name: str, chosen: list[int], title: str, otherwise: str, in_layers: int | None = None
    ) -> None:
        drawn = attention_pictures(self.predictions, chosen, title, in_layers) if chosen else {}
        self._show(name, drawn.get("heads"), otherwise)
        if drawn:
            self._show(f"{name}_layers", drawn["layers"])

    def _show(self, name: str, picture: Picture | None, otherwise: str = "", shown: bool = True) -> None:
        """Write a picture and its numbers and show it, or say why there is none."""
        if picture is None:
            self._write(name, {})
            print(otherwise)
            return
        save(picture.figure, self.folder / name)
        self._write(name, picture.numbers)
        if shown:
            width = round(picture.figure.get_figwidth() * PIXELS_PER_INCH)
            display(Image(filename=self.folder / f"{name}.png", width=width))

    def _write(self, name: str, numbers: dict) -> None:
        """Put a section into result.txt, in the place of an earlier one of the same name."""
        self._sections[name] = flat(numbers)
        text = "\n".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())
            for section, lines in self._sections.items()
        )
        write_atomically(self.folder / "result.txt", lambda file: file.write(text.encode()))


def flat(numbers: dict, above: str = "") -> dict[str, str]:
    """Nested dictionaries as "outer.inner": text; numbers in 6 digits, lists with commas."""
    lines = {}
    for key, value in numbers.items():
        name = f"{above}{key}"
        lines |= flat(value, f"{name}.") if isinstance(value, dict) and value else {name: _text(value)}
    return lines


def newest_run(result: str | Path) -> Run:
    """The run in this folder that was trained last. Raises `UserError` if there is none."""
    runs = [Run(config.parent) for config in Path(result).glob("*/config.json")]
    runs = [run for run in runs if run.best.is_file()]
    if not runs:
        raise UserError(
            f"there is no trained run in {result}; train one (bash run_demo.sh), or name one in RESULT_DIR"
        )
    return max(runs, key=lambda run: max(p.stat().st_mtime for p in (run.best, run.last) if p.is_file()))


def new_folder(result: str | Path) -> Path:
    """Make result/result%Y%m%d_%H%M; a second one in the same minute ends in _2, and so on."""
    name, number = time.strftime("result%Y%m%d_%H%M"), 1
    while True:
        folder = Path(result, name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def _given(name: str, value: str | bool | None) -> str | bool | None:
    return (os.environ.get(name) or None) if value is None else value


def _text(value: object) -> str:
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
