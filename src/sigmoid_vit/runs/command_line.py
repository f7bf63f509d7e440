"""The command line of `src/train.py`: what is left out comes from FIRST_STEP, the data set or the preset."""

import re
import sys
from dataclasses import asdict
from pathlib import Path

from sigmoid_vit.data import DATASETS
from sigmoid_vit.errors import UserError, speaks
from sigmoid_vit.options import OptionsParser
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.settings import NOT_INHERITED, PRESETS, Settings


class SettingsParser(OptionsParser):
    """One option per field of `Settings`; one left out takes the data set's default, then the field's."""

    def __init__(self, description: str) -> None:
        super().__init__(description, Settings)

    def parse_settings(self, args: list[str] | None = None) -> Settings:
        """Settings from the command line.

        Raises:
            UserError: an unknown option or value; the sentence lists the valid ones.
        """
        return self._settings(self.given(args))

    def parse_seeds(self, args: list[str] | None = None) -> tuple[list[Settings], str]:
        """The settings of each run that --seeds 0,1,2 asks for: RUNS_NAME_s0, ..., {seed} in paths filled in.

        Returns:
            The settings and the name of the table of these runs; without --seeds, one run and no name.
        """
        self.add_argument(
            "--seeds", default="", help="0,1,2: a run per seed, RUNS_NAME_s0, ..., and one table"
        )
        given = self.given(args)
        text = given.pop("seeds")
        if not text:
            return [self._settings(given)], ""
        if not re.fullmatch(r"\d+(,\d+)*", text):
            raise UserError(f"SEEDS is {text!r}; it must be numbers with commas between them, such as 0,1,2")
        seeds = [int(seed) for seed in text.split(",")]
        if len(set(seeds)) < len(seeds):
            raise UserError(f"SEEDS is {text!r}, which names a seed twice; each of them is one run")
        name = given.get("runs_name", Settings.runs_name)
        runs = [_seeded({**given, "seed": seed, "runs_name": f"{name}_s{seed}"}, str(seed)) for seed in seeds]
        return [self._settings(run) for run in runs], f"{name}_seeds"

    def _settings(self, given: dict) -> Settings:
        defaults = DATASETS[given.get("dataset", Settings.dataset)].defaults  # the data set's preferences
        if given.get("first_step"):
            given, defaults = _inherited(given)
            _check_split(given, defaults)
        preset = PRESETS[given.get("hitl", Settings.hitl)]
        return Settings(**{**defaults, **preset, **given})


def _seeded(given: dict, seed: str) -> dict:
    paths = ("first_step", "edits", "pretrained")
    return {k: v.replace("{seed}", seed) if k in paths else v for k, v in given.items()}


def _inherited(given: dict) -> tuple[dict, dict]:
    """What is left of the options, and what Step 2 takes over: FIRST_STEP's settings and best weights.

    PRETRAINED as it was exported for Step 1 does not undo Step 1: it is left out, and a note says so.
    """
    folder = Path(given["first_step"])
    run = Run(folder)
    if not run.config.is_file() or not run.best.is_file():
        raise UserError(f"FIRST_STEP {folder} is not a finished run: it must hold config.json and best.pt")
    first = run.settings()
    kept = {name: value for name, value in asdict(first).items() if name not in NOT_INHERITED}
    if (start := given.get("pretrained")) is not None and start.lower() in (
        "false",
        first.pretrained.lower(),
    ):
        given = {name: value for name, value in given.items() if name != "pretrained"}
        note = f"note: Step 2 starts from the weights of FIRST_STEP, so PRETRAINED={start} is left out"
        if speaks():
            print(f"{note}; without FIRST_STEP, it would hold", file=sys.stderr)
    return given, {**kept, "split_seed": first.cut_seed, "pretrained": str(run.best)}


def _check_split(given: dict, first: dict) -> None:
    """Refuse another split than FIRST_STEP's: it would be judged on images that it has learned."""
    if given.get("dataset", first["dataset"]) != first["dataset"]:
        return
    for name, harmless in (("split_seed", ()), ("val_fraction", (0,)), ("group_by", ())):
        if name in given and given[name] not in (first[name], *harmless):
            raise UserError(
                f"{name.upper()} is {given[name]}, but FIRST_STEP cut its validation part with {first[name]} "
                "and has learned the other images; leave it out"
            )
