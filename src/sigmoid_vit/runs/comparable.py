"""A run opened for evaluation, alone or beside the run before it: the same images for both networks."""

from dataclasses import replace

from sigmoid_vit.data import DataModule, Part
from sigmoid_vit.errors import UserError
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network, make_accelerator


def open_networks(
    run: Run,
    before: Run | None = None,
    split: str | None = None,
    which: str = "best",
    dataset_path: str | None = None,
) -> tuple[DataModule, Part, Network, Network | None]:
    """Open a run, and the run before it where there is one, to be asked about the same images.

    Args:
        run: the run after, such as Step 2; it says where the data set is and how precise to compute.
        before: the run before, such as Step 1. Its network and image size may be others.
        split: "train", "val" or a test part; None for "test", or "val" in a data set without a test part.
        which: "best" or "last" checkpoint, of both.
        dataset_path: where the data set is now, if it was moved.

    Returns:
        The data set of `run`, the part, and the two networks; nothing is predicted yet.

    Raises:
        UserError: there is no such run, data set or part; or the runs have another data set or other classes,
            or their parts hold other images.
    """
    for opened, option in ((run, "--run (RESULT_DIR"), (before, "--against (COMPARE_WITH")):
        if opened:
            check_trained(opened, which, f"{option} in the notebook)")
    if before:
        _check_comparable(run, before)
    data = run.open_data(dataset_path)
    part = data.part(split or data.default_part)
    if before:
        _check_same_images(part, run, before, dataset_path)
    accelerator = make_accelerator(run.settings())
    network = Network.of_run(run, which, accelerator)
    former = Network.of_run(before, which, accelerator) if before else None
    return data, part, network, former


def check_trained(run: Run, which: str = "best", option: str = "--run") -> None:
    """Refuse a run without the checkpoint; `option` is what gives another run."""
    if run.config.is_file() and not (run.folder / f"{which}.pt").is_file():
        raise UserError(
            f"{run.folder} has no {which}.pt: none of its epochs has ended, or the file was moved; "
            f"train it on with RESUME=true, or give another run with {option}"
        )


def _check_comparable(run: Run, before: Run) -> None:
    """Refuse two runs that are one, or that have other data sets or classes."""
    if run.folder.resolve() == before.folder.resolve():
        raise UserError(
            f"{run.folder} is compared with itself; give another run with --against "
            "(COMPARE_WITH in the notebook)"
        )
    sets = run.settings().dataset, before.settings().dataset
    if sets[0] != sets[1]:
        raise UserError(
            f"{run.folder} was trained on {sets[0]} but {before.folder} on {sets[1]}; "
            "only runs on the same data set can be compared"
        )
    if run.classes != before.classes:
        raise UserError(
            f"{run.folder} and {before.folder} were trained on different classes; "
            "only runs on the same data set can be compared"
        )


def _check_same_images(part: Part, run: Run, before: Run, dataset_path: str | None) -> None:
    """Refuse a part that holds other images in `run` than in the run before."""
    s = replace(run.settings(), val_fraction=before.settings().val_fraction)
    if part.ids != before.open_data(dataset_path, s).part(part.name).ids:
        raise UserError(
            f"the {part.name} parts of {run.folder} and {before.folder} hold different images, because "
            "their SEED, VAL_FRACTION or GROUP_BY differ; compare them on a test part with --split "
            "(SPLIT in the notebook)"
        )
