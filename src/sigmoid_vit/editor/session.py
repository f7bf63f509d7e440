"""What one editor works with: a run, a part of its data set, and the store its edits go to."""

import getpass
import hashlib
import json
import re
import shlex
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette

from sigmoid_vit.annotations.sources import open_source, own_masks
from sigmoid_vit.data import DataModule, Part
from sigmoid_vit.editor.first_step import FirstStep
from sigmoid_vit.editor.part_edits import PartEdits
from sigmoid_vit.editor.part_images import Mask, PartImages
from sigmoid_vit.editor.part_predictions import PartPredictions
from sigmoid_vit.editor.part_regions import PartRegions
from sigmoid_vit.editor.predictor import Predictor
from sigmoid_vit.editor.request_fields import TEXT_LENGTHS
from sigmoid_vit.editor.team import Team
from sigmoid_vit.editor.work_queue import WorkQueue
from sigmoid_vit.edits.store import PROPAGATED, EditStore
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import sha256
from sigmoid_vit.options import check_options, option
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network


@dataclass
class EditorOptions:
    """What is edited and how it is served; `src/edit_attention.py` has an option for every field.

    Raises:
        UserError: a value that is not valid.
    """

    run: str = option(text="the run's folder, result/<RUNS_NAME>")
    edits: str = option("edits.sqlite", "the store of the edits, made where there is none")
    split: str = option("train", "train, val or a test part")
    masks: str | None = option(
        None,
        "a mask per image, for the order by attention outside the mask (default: own masks)",
        metavar="DIR",
    )
    dataset_path: str | None = option(None, "where the data set is now, if it was moved")
    author: str = option("", "of the edits, unless the page names another (default: login name)")
    port: int | None = option(
        None, "0: any free one (default: the same one for a store at every start)", low=0, high=65535
    )
    host: str = option("127.0.0.1", "address to listen on (default: 127.0.0.1, this computer only)")
    allow_host: Sequence[str] = option(
        (),
        "a further name of the server as the browser's address bar shows it, such as example.org:80",
        action="append",
        metavar="NAME[:PORT]",
    )
    root_path: str = option("", "path that a proxy in front adds and does not strip")
    no_browser: bool = option(False, "do not open a browser")

    def __post_init__(self) -> None:
        check_options(self)
        if not re.fullmatch(r"[\w./~-]*", self.root_path):
            raise UserError(f"--root_path is {self.root_path!r}; it must be a path such as /editor")
        for name in self.allow_host:
            if not re.fullmatch(r"[\w.:\[\]-]+", name):
                raise UserError(f"--allow_host is {name!r}; it must be a name such as example.org:8765")
        self.run, self.edits = str(self.run), str(self.edits)
        self.author = self.author.strip() or login_name()
        if self.author == PROPAGATED or len(self.author) > TEXT_LENGTHS["author"]:
            raise UserError(
                f"--author must have at most {TEXT_LENGTHS['author']} characters and not be {PROPAGATED!r}, "
                "which is kept for edits that propagation made"
            )


class Session:
    """A run's network, the images of a part, their predictions and edits, and the queue made of all.

    Args:
        owner: the server's address, named in the error of whoever finds the store taken.

    Raises:
        UserError: the run, the data set, the masks or the store cannot be used.
    """

    def __init__(self, options: EditorOptions, owner: str = "") -> None:
        self.options, self.author, run = options, options.author, Run(options.run)
        self.run_folder, self.classes = run.folder.resolve(), run.classes
        data = run.open_data(options.dataset_path)
        self.part, network = data.part(options.split), Network.of_run(run)
        mask, cache = _mask(options, data, self.part), run.folder / "editor_cache"
        self.images = PartImages(self.part, network.transform, cache, mask)
        self.predictor = Predictor(network, self.images.pixels)
        self.regions = PartRegions(self.images.pixels, self.predictor.grid)
        self.first_step = FirstStep(run, self.part, cache / "first_step")
        weights, self.masks = sha256(run.best), mask is not None
        self.class_token = network.model.has_class_token
        facts = {
            "weights": weights,
            "size": network.transform.size,
            "masks": self.masks and _file_states(options.masks or (data.masks_beside_images and data.root)),
        }
        file = cache / f"{options.split}.npz"
        self.predictions = PartPredictions(self.images, self.predictor, file, facts)
        store = EditStore(options.edits, owner=owner)
        self.edits = PartEdits(store, self.images, self.predictor.grid, weights)
        self.queue = WorkQueue(self.part, self.predictions, self.edits, self.masks)
        self.team = Team(self.edits)
        self._stop = threading.Event()
        self._background = threading.Thread(target=self._work, name="predictions", daemon=True)

    def facts(self) -> dict:
        """What the page needs to know before it shows the first image."""
        return {
            "run": self.run_folder.name,
            "work": self._work_id(),
            "split": self.options.split,
            "classes": self.classes,
            "grid": self.predictor.grid,
            "layers": self.predictor.num_layers,
            "heads": self.predictor.num_heads,
            "first_step": self.first_step.name or None,
            "decision_at_once": self.predictor.erases_every_cell,
            "prefix_tokens": self.predictor.model.num_prefix_tokens,
            "class_token": self.class_token,
            "images": len(self.part),
            "masks": self.masks,
            "author": self.author,
            "edits": self.options.edits,
            "command": hitl_command(self.options.run, self.options.edits),
            "orders": self.queue.orders,
            "scope": {"layers": "all", "heads": None, "queries": "all"},
        }

    @asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """The life of the server: predictions are computed beside it, and the store is free after it."""
        self._background.start()
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Stop the work in the background and free the store; a second call does nothing more."""
        self._stop.set()
        if self._background.ident is not None:
            self._background.join()
        self.predictor.close()
        self.first_step.close()
        self.edits.store.close()

    def _work_id(self) -> str:
        """Names what is worked on, whatever way its paths are spelled: changes not yet saved belong to it."""
        what = [self.run_folder, self.edits.store.path, self.options.split, self.predictor.grid]
        return hashlib.sha256(json.dumps(what, default=str).encode()).hexdigest()[:16]

    def _work(self) -> None:
        self.edits.check_images(self._stop)
        self.predictions.compute(self._stop)


def hitl_command(run: str, edits: str) -> str:
    """The command that trains on the edits, and on those that they propagate to the other images."""
    first_step, edits = shlex.quote(run), shlex.quote(edits)
    return f"FIRST_STEP={first_step} EDITS={edits} PROPAGATE=true bash run_vit_hitl_training.sh"


def login_name() -> str:
    try:
        return getpass.getuser()[: TEXT_LENGTHS["author"]]
    except (OSError, KeyError):  # a container's user may have no name
        return "anonymous"


def _mask(options: EditorOptions, data: DataModule, part: Part) -> Mask | None:
    if options.masks:
        return open_source("masks", [options.masks], data, part).read
    own = own_masks(data, part)
    return own.read if own else None


def _file_states(masks: str | Path | None) -> list:
    """Names, sizes and times of the files in a folder of masks."""
    files = sorted(path for path in Path(masks).expanduser().rglob("*") if path.is_file()) if masks else []
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
