"""What Step 2 learns from: a store's edits, propagated and planned, or those a resumed run began with."""

from dataclasses import dataclass, field
from pathlib import Path

from sigmoid_vit.data import DataModule, Prepared
from sigmoid_vit.edits.maps import EditMaps, account_text, load_edits
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network
from sigmoid_vit.training.plan import Plan, make_plan
from sigmoid_vit.training.propagation import Teacher, propagate, save_predictions


@dataclass
class TrainingEdits:
    """The edits of all training images as a run uses them, and which of the images it trains on."""

    maps: EditMaps
    plan: Plan
    facts: dict = field(default_factory=dict)  # for config.json


def take_edits(
    network: Network, train: Prepared, data: DataModule, run: Run, weights_sha256: str
) -> TrainingEdits:
    """Read the edits of the training images, propagate them if that was asked for, and plan with them.

    A resumed run takes the edits that it began with, whatever became of the store. With PROPAGATE=true copies
    of the network are trained, and their predictions are written into the store.

    Args:
        weights_sha256: of the weights that the network starts from, kept with propagated edits.
    """
    s, kept, facts = network.settings, edits_file(run, network.settings.control), {}
    if s.resume and kept.exists():
        maps, told = EditMaps.read(kept, train.part.ids), "as the run began"
    else:
        maps, facts = _from_store(network, train, data, weights_sha256)
        told = account_text(facts["edits"])
        if facts["edits"]["drawn for a narrower scope"]:
            told += "; EDIT_LAYERS and EDIT_QUERIES decide"
        if s.control == "shuffled":
            maps = maps.shuffled(s.seed)
    plan = make_plan(s, train.part.labels, maps.has_edit, maps.erases, ~maps.propagated)
    if s.control == "no_edits":
        plan.says += f"; control: the {len(plan.images)} images alone, without edits"
    if network.accelerator.is_main_process:
        print(f"edits: {told}; {plan.says}")
    return TrainingEdits(maps, plan, {**facts, "plan": plan.says})


def edits_file(run: Run, control: str) -> Path:
    """Where a run keeps the edits it began with: it learns from them, or they only chose its images."""
    return run.unused_edits if control == "no_edits" else run.edits


def _from_store(
    network: Network, train: Prepared, data: DataModule, weights_sha256: str
) -> tuple[EditMaps, dict]:
    """The edits of the store, and what config.json says of them."""
    s, part, grid, facts, doubted = network.settings, train.part, network.grid, {}, []
    if s.propagate == "true":
        doubted, facts["propagation"] = _propagate(network, train, weights_sha256)
    maps, account = load_edits(s.edits, part, grid, s.propagate != "false", data)
    if s.doubted == "drop":
        maps.edited[doubted] = False
        account["doubted and dropped"] = len(doubted)
    return maps, {**facts, "edits": account}


def _propagate(network: Network, train: Prepared, weights_sha256: str) -> tuple[list[int], dict]:
    """Predict the edits of the other images into the store; the images whose own edits are doubted."""
    s, a = network.settings, network.accelerator
    maps, _ = load_edits(s.edits, train.part, network.grid)
    if a.is_main_process:
        EditStore(s.edits).close()  # known to be free to write before the work
    prediction = propagate(Teacher(network, train), maps)
    if a.is_main_process:
        note = f"predicted from {maps.has_edit.sum()} edits, run {s.runs_name}"
        save_predictions(s.edits, train, prediction, note, weights_sha256)
        print(f"propagation: {prediction.says}")
    a.wait_for_everyone()
    return prediction.doubted, prediction.report
