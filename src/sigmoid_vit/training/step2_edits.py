"""What Step 2 learns from: a store's edits, propagated and planned, or those a resumed run began with."""

from dataclasses import dataclass, field
from pathlib import Path

from accelerate.utils import broadcast_object_list

from sigmoid_vit.data import DataModule, Prepared
from sigmoid_vit.edits.maps import CHANGED, EditMaps, account_text, load_edits
from sigmoid_vit.edits.next_images import report_file
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_json
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network
from sigmoid_vit.training.plan import Plan, make_plan
from sigmoid_vit.training.propagation import propagate, save_propagated


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

    A resumed run takes the edits that it began with, whatever became of the store. With PROPAGATE=true a
    classifier of cells learns the edits, and the edits that it propagates are written into the store.

    Args:
        weights_sha256: of the weights that the network starts from, kept with propagated edits.

    Raises:
        UserError: the edits teach too little to propagate them.
    """
    s, kept, facts = network.settings, edits_file(run, network.settings.control), {}
    if s.resume and kept.exists():
        maps, told = EditMaps.read(kept, train.part.ids), "as the run began"
    else:
        maps, facts = _from_store(network, train, data, weights_sha256)
        told = account_text(facts["edits"])
        if facts["edits"]["drawn for a narrower scope"]:
            told += "; EDIT_LAYERS and EDIT_QUERIES decide"
        if facts["edits"]["of changed images"]:
            told += f"; {CHANGED}"
        if s.control not in ("none", "no_edits"):
            maps = maps.control(s.control, s.seed)
    plan = make_plan(s, train.part.labels, maps.has_edit, maps.erases, ~maps.propagated, maps.unchanged)
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
    """Propagate edits to the other images, into the store; which images' own edits are doubted, and a report.

    One process does so for all: they go on with the same edits, or all stop with the same error.
    """
    outcome: list = [None]
    if network.accelerator.is_main_process:
        try:
            outcome = [_propagate_and_save(network, train, weights_sha256)]
        except UserError as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if isinstance(outcome[0], UserError):
        raise outcome[0]
    return outcome[0]


def _propagate_and_save(network: Network, train: Prepared, weights_sha256: str) -> tuple[list[int], dict]:
    """The same in one process. The report also lies beside the store; where Step 2 stops, the store stays."""
    s = network.settings
    maps, _ = load_edits(s.edits, train.part, network.grid)
    EditStore(s.edits).close()  # known to take edits before the work
    propagation = propagate(network, train, maps)
    write_json(report_file(s.edits), propagation.report)
    propagation.require_enough()
    note = f"propagated from {maps.has_edit.sum()} edits, run {s.runs_name}"
    save_propagated(s.edits, train, propagation, note, weights_sha256)
    print(propagation.says, flush=True)
    return propagation.doubted, propagation.report
