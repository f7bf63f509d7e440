"""The library side of result.ipynb: each of its cells is one call of a `Report`.

report = open_report("result/demo_HITL", compare_with="result/demo")
report.calibration()  # shows the picture and writes it, with its numbers, into the report's own folder
"""

import os
import time
from pathlib import Path

from IPython.display import Image, display
from torch import Tensor

from sigmoid_vit import pictures, plots
from sigmoid_vit.answers import Answers
from sigmoid_vit.attention_quality import attention_quality, summary
from sigmoid_vit.comparison import changed_images, compare_answers, open_networks
from sigmoid_vit.data import DataModule
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_atomically
from sigmoid_vit.human_attention import marked_cells
from sigmoid_vit.metrics import classification_metrics, confident_errors, confident_hits
from sigmoid_vit.pictures import LAYERS_SHOWN, Picture
from sigmoid_vit.runs import Run
from sigmoid_vit.touch import Touch

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
    before = first_step(run) if compare_with is None else Run(compare_with) if compare_with else None
    data, part, network, former = open_networks(run, before, split, dataset_path=dataset_path)
    answers = network.answer(network.prepare(part))
    answers_before = former.answer(former.prepare(part)) if former else None
    report = Report(data, answers, answers_before, new_folder(result))
    print("\n".join(f"{name}: {value}" for name, value in report.about.items()))
    print(f"pictures and numbers: {report.folder}")
    return report


class Report:
    """The pictures of a run, shown in a notebook and written as PNG and PDF, with result.txt beside them.

    Args:
        data: the run's data set.
        answers: of the run's network to the images of one part.
        before: the answers of the network before to the same images, if there is one.
        folder: where everything goes.
    """

    def __init__(self, data: DataModule, answers: Answers, before: Answers | None, folder: Path) -> None:
        self.data, self.answers, self.before, self.folder = data, answers, before, folder
        self.run = answers.network.run
        self.metrics = classification_metrics(answers.probabilities, answers.labels, self.run.classes)
        self._pictures = pictures.prediction_pictures(answers, self.metrics)
        self._sections = {}
        self.about = {
            "run": self.run.folder,
            "checkpoint": answers.network.which,
            "part": answers.part.part.name,
            "images": len(answers.part),
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
        self._show("learning_curves", pictures.learning_curves(self.run), "The run has no log of its epochs.")

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
        chosen = confident_errors(self.answers.probabilities, self.answers.labels, count)
        self._attention("errors", chosen, "most confident errors", "There is no error.", LAYERS_SHOWN)

    def hits(self, count: int = 6) -> None:
        """The attention behind the surest hits."""
        chosen = confident_hits(self.answers.probabilities, self.answers.labels, count)
        self._attention("hits", chosen, "surest hits", "There is no right answer.", LAYERS_SHOWN)

    def images(self, *chosen: int) -> None:
        """The attention behind the images at these positions, 0 being the first of the part."""
        n = len(self.answers.part)
        if outside := [i for i in chosen if not 0 <= i < n]:
            raise UserError(f"there is no image {outside[0]}; the part's images are numbered 0 to {n - 1}")
        self._attention("images", list(chosen), "images by number", "No image was asked for.")

    def insertion_deletion(self, images: int = 50) -> None:
        """How the answer follows the cells that attention names; also the attention against masks, if any."""
        a, network = self.answers, self.answers.network
        marked = marked_cells(self.data, a.part.part, network.grid)
        quality = attention_quality(
            network.model, a.part, network.transform, marked, network.batch_size, images
        )
        self._show("insertion_deletion", pictures.faithfulness(a, quality["faithfulness"]))
        if masks := quality.get("masks"):
            self._write("attention against masks", masks)
        print("\n".join(summary(quality)))

    def comparison(self, count: int = 6) -> None:
        """What changed since the run before: the table with McNemar's test, fixed and broken images."""
        before, after = self.before, self.answers
        if before is None:
            print(COMPARISON)
            return
        ids, title = after.part.part.ids, f"{after.title} against {before.network.name}"
        change = compare_answers(before.probabilities, after.probabilities, after.labels, ids)
        self._show("outcomes", pictures.outcomes(change, title))
        for name, drawn in changed_images(before, after, change, count).items():
            self._show(name, drawn, f"No image was {name}.")

    def edits(self) -> None:
        """Training images with the edit they had in Step 2, and the attention before and after it."""
        former = self.before.network if self.before else None
        drawn = pictures.edits(self.answers.network, former, self.data.train)
        self._show("edits", drawn, "The run learned from no edits.")

    def touch(self) -> None:
        """The method to try: write a value into the map and see the answer change."""
        touch = Touch(self.answers)
        self._show("one_edit", touch.picture, shown=False)
        display(touch.widget)

    def _attention(
        self, name: str, chosen: list[int], title: str, otherwise: str, in_layers: int | None = None
    ) -> None:
        looks = pictures.attention_pictures(self.answers, chosen, title, in_layers) if chosen else {}
        self._show(name, looks.get("heads"), otherwise)
        if looks:
            self._show(f"{name}_layers", looks["layers"])

    def _show(self, name: str, picture: Picture | None, otherwise: str = "", shown: bool = True) -> None:
        """Write a picture and its numbers and show it, or say why there is none."""
        if picture is None:
            self._write(name, {})
            print(otherwise)
            return
        plots.save(picture.figure, self.folder / name)
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


def first_step(run: Run) -> Run | None:
    """The run that Step 2 started from, beside it or where it was; None if it is not there."""
    first = run.settings().first_step
    places = [run.folder.parent / Path(first).name, Path(first)] if first else []
    return next((Run(place) for place in places if (place / "best.pt").is_file()), None)


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
