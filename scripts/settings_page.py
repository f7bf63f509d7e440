"""Write docs/settings.md from the dataclasses that the command lines are made from."""

import inspect
import math
import re
import sys
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from sigmoid_vit.annotations.import_options import ImportOptions
from sigmoid_vit.data import DATASETS
from sigmoid_vit.deployment.export import ExportOptions
from sigmoid_vit.deployment.predict import PredictOptions
from sigmoid_vit.editor import EditorOptions
from sigmoid_vit.evaluation.evaluate import EvaluateOptions
from sigmoid_vit.report.build import ReportOptions
from sigmoid_vit.runs.settings import PRESETS, Settings
from sigmoid_vit.training.benchmark import BenchmarkOptions

PAGE = Path(__file__).resolve().parents[1] / "docs/settings.md"
SCRIPTS = {
    "evaluate": EvaluateOptions,
    "predict": PredictOptions,
    "export_model": ExportOptions,
    "report": ReportOptions,
    "edit_attention": EditorOptions,
    "import_edits": ImportOptions,
    "benchmark": BenchmarkOptions,
}
TOP = """# Settings and options

`python3 scripts/settings_page.py` writes this page from the code, and a test compares the two: change a text
in the code, not here. The scripts that are not on this page list their few options with `--help`.

## Training: `run_vit_training.sh`, `run_vit_hitl_training.sh`

[Step 1](step1.md#settings) says how to give a setting. `src/train.py` takes the same ones as
`--runs_name NAME` and so on. Where `RUNS_NAME` is not given, the two scripts name a run `<DATASET>_FT` or
`<name of FIRST_STEP>_HITL`. They also have these settings:

| setting | meaning |
|---|---|
| `SEEDS` | `0,1,2`: one run for each seed, `RUNS_NAME_s0` and so on, and one table of all of them |
| `IS_DATAPARALLEL` | true: one process for each GPU |
| `LAUNCH_ARGS` | options of `accelerate launch`, for several machines |
| `WANDB_KEY` | your wandb key; it reaches wandb through the environment only |"""


def page() -> str:
    """The whole text of docs/settings.md."""
    source, named = inspect.getsource(Settings), {f.name: f for f in fields(Settings)}
    groups, parts = re.split(r"\n    # (.+)\n", source)[1:], [TOP]  # a title and its lines, in turn
    for title, lines in zip(groups[::2], groups[1::2], strict=True):
        names = re.findall(r"^    (\w+): .+ = option", lines, re.MULTILINE)
        parts.append(f"### {title[0].upper()}{title[1:]}\n\n{_table((named[n] for n in names), 'setting')}")
    bundles = {"DATASET=digits_decoy": DATASETS["digits_decoy"].defaults, "HITL=paper": PRESETS["paper"]}
    parts.append("### What two settings stand for")
    for name, given in bundles.items():
        parts.append(f"`{name}`: " + ", ".join(f"`{k.upper()}={_text(v)}`" for k, v in given.items()))
    parts += [f"## `src/{name}.py`\n\n{_table(fields(kind), 'option')}" for name, kind in SCRIPTS.items()]
    return "\n\n".join(parts) + "\n"


def _table(options: Iterable[Field], what: str) -> str:
    rows = [f"| {what} | default | values | meaning |", "|---|---|---|---|"]
    for f in options:
        name = f.metadata["argument"].get("flag", f"--{f.name}") if what == "option" else f.name.upper()
        meaning = f.metadata["text"].replace("<", r"\<")
        rows.append(f"| `{name}` | {_default(f)} | {_values(f)} | {meaning} |")
    return "\n".join(rows)


def _default(f: Field) -> str:
    if f.default is MISSING:
        return "required" if f.default_factory is MISSING else ""
    return "" if f.default in ("", None, ()) else f"`{_text(f.default)}`"


def _values(f: Field) -> str:
    low, high = f.metadata["low"], f.metadata["high"]
    if low is not None:
        return f"at least {low}" if high == math.inf else f"{low} to {high}"
    return ", ".join(f.metadata["choices"] or ["true", "false"] * ("bool" in str(f.type)))


def _text(value: object) -> str:
    """A value as a person writes it."""
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
