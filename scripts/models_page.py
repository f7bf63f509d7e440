"""Write docs/models.md: the models of timm that can be edited, and why others cannot, as the code has it."""

import sys
from collections import defaultdict
from pathlib import Path

import timm
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from sigmoid_vit.model.families import FAMILIES, REFUSED, refusal

OF_OTHER_MODULES = {"vision_transformer_hybrid", "vitamin"}  # of timm, that build these classes as well
PAGE = Path(__file__).resolve().parents[1] / "docs/models.md"
TOP = f"""# Which models

`python3 scripts/models_page.py` writes this page from the code and timm {timm.__version__}.
A test compares the two. A *name* is an architecture, a *tag* published weights of one:
`vit_small_patch16_224` is a name, `vit_small_patch16_224.dino` one of its tags.

The outputs of a model in the first table are timm's, and an edit does exactly what [the model and its
edits](model.md) says. `tests/model/test_families.py` shows both for each kind of attention, positions and
pooling, against the method written out plainly; and that nothing of an erased patch reaches the answer."""

REFUSALS = """## Refused

`create_model` says the reason. Classes that are not in this table are refused, too."""


def page() -> str:
    """The whole text of docs/models.md."""
    accepted, refused = defaultdict(list), defaultdict(list)
    modules = {_module(kind) for kind in FAMILIES} | OF_OTHER_MODULES
    for name in timm.list_models(module=list(modules)):
        kind, reason = _look_at(name)
        (refused[kind, reason] if reason else accepted[kind]).append(name)
    for kind, reason in REFUSED.items():
        if _module(kind) not in modules:
            refused[kind, reason] = timm.list_models(module=_module(kind))
    yes = [f"| `{kind.__name__}` | {_counts(names)} |" for kind, names in accepted.items()]
    total = _counts([name for names in accepted.values() for name in names]).split(" | ")
    no = [f"| `{kind.__name__}` | {_counts(names)} | {why} |" for (kind, why), names in refused.items()]
    yes = ["| class of timm | names | tags | examples |", "|---|---|---|---|", *yes]
    no = ["| class of timm | names | tags | examples | why |", "|---|---|---|---|---|", *no]
    together = f"| **together** | **{total[0]}** | **{total[1]}** | |"
    return "\n".join([TOP, "", *yes, together, "", REFUSALS, "", *no, ""])


def _module(kind: type) -> str:
    return kind.__module__.rpartition(".")[2]


def _look_at(name: str) -> tuple[type, str]:
    """The class that timm builds for a name, and why it is refused; one block is enough to tell."""
    with torch.device("meta"):
        try:
            model = timm.create_model(name, depth=1)
        except (TypeError, AssertionError):  # it has stages, or gives each block arguments of its own
            model = timm.create_model(name)
    return type(model), REFUSED.get(type(model)) or refusal(model)


def _counts(names: list[str]) -> str:
    tags = sum(len(timm.list_pretrained(f"{name}.*")) for name in names)
    examples = names[:: max(1, len(names) // 3)][:3]
    return f"{len(names)} | {tags} | {', '.join(f'`{name}`' for name in examples)}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
