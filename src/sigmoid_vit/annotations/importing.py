"""The import: files that people marked go in; edits in the store, and an account of every image, come out."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from sigmoid_vit.annotations.account import Account
from sigmoid_vit.annotations.cells import (
    BY_LABEL,
    MARKED,
    cell_edit,
    cell_means,
    cells_inside,
    labelled_cells,
)
from sigmoid_vit.annotations.import_options import EXPORT, GAZE, OWN_MASKS, ImportOptions
from sigmoid_vit.annotations.selection import choose, stratified
from sigmoid_vit.annotations.source import Source, image_size
from sigmoid_vit.annotations.sources import open_source
from sigmoid_vit.data import DATASETS, BadImage, DataModule, Part, known_ids
from sigmoid_vit.data.images import for_each_file, listed
from sigmoid_vit.data.parts import MAX_WORKERS
from sigmoid_vit.edits.exchange import read_export
from sigmoid_vit.edits.store import EditStore, StoredEdit
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import sha256
from sigmoid_vit.runs.folder import Run, open_data
from sigmoid_vit.runs.network import Network
from sigmoid_vit.runs.settings import Settings

NEARLY_ALL = 0.8  # of an image: half of the masks marking more than this look like masks of the background
INVERTED = (
    "WARNING: of the masks that mark more than 80% of their image; if that is the background, --inverted"
)


@dataclass
class Merged:
    """What became of the edits of an exported folder."""

    edits: str
    folder: str
    added: list[str]  # image ids, a name per revision
    there: list[str]  # those that the store had before

    def text(self) -> str:
        """The account for a person."""
        told = f"edits in {self.edits}: {len(self.added)} added from {self.folder}"
        return told + (f", {len(self.there)} were there already" if self.there else "")


def import_edits(options: ImportOptions) -> Account | Merged:
    """Make edits of people's attention for images of a data set and save them, all at once, in the store.

    From "export", take over the edits of an exported folder as they are.

    Raises:
        UserError: something is missing or damaged, or no image can be edited; the store is as it was.
    """
    o = options
    if o.kind == EXPORT:
        return _merge(o)
    data, run = _open_data(o)
    part, network, prepared = _part(data, o.split), None, None
    if run:
        network = Network.of_run(run)
    if o.select != "random":
        prepared = network.prepare(part)
        part = prepared.part  # without the images that cannot be read
    grid = network.grid if network else o.cells
    heat, by_label = o.mask_edit == "soft", o.mask_edit == BY_LABEL
    source = open_source(
        o.kind, o.files, data, part, o.boxes, o.sigma, o.mask_value, o.inverted, heat, by_label
    )
    account = Account(o.edits, o.author or o.kind, tuple(grid), part.name, len(part))
    account.unknown, account.among_images = source.unknown, source.among_images
    account.outside = source.outside
    targets = _targets(o, part, source, account)
    candidates = np.array(list(targets))
    if prepared:
        candidates = choose(o.select, network, prepared, candidates, list(targets.values()))
    chosen = _choose(o, part, candidates, account)
    weights = sha256(run.best) if prepared else ""
    edits = [_stored(o, part, i, targets[i], weights) for i in chosen]
    with EditStore(o.edits) as store:
        earlier = store.current_all()
        store.save_many(edits)
    account.edited = [edit.image_id for edit in edits]
    account.without_cells = [edit.image_id for edit in edits if not edit.edited.any()]
    account.replaced = [image_id for image_id in account.edited if image_id in earlier]
    account.foreign = _foreign(earlier, data, part)
    account.write()
    return account


def _foreign(stored: Iterable[str], data: DataModule, part: Part) -> list[str]:
    """Those of the ids that belong to no image of the data set; test parts that are not open are believed."""
    known = set(known_ids(data, part))
    return [i for i in stored if i not in known and i.split("/")[0] not in data.test_parts]


def _merge(o: ImportOptions) -> Merged:
    edits, (folder,) = o.edits, o.files
    exported = read_export(folder)  # a bad one makes no store
    if o.same_pictures:
        exported = _of_files_now(exported, _part(_open_data(o)[0], o.split))
    with EditStore(edits) as store:
        before = {edit.client_id for edit in store.history()}
        merged = store.save_many(exported)
    added, there = (
        [edit.image_id for edit in merged if (edit.client_id in before) == known] for known in (False, True)
    )
    return Merged(edits, folder, added, there)


def _of_files_now(exported: list[StoredEdit], part: Part) -> list[StoredEdit]:
    """The edits as edits of the files that the images of `part` are today; those of other images stay."""
    position, result = {image_id: i for i, image_id in enumerate(part.ids)}, []
    for edit in exported:
        now = part.sha256(position[edit.image_id]) if edit.image_id in position else edit.image_sha256
        if now != edit.image_sha256:
            note = f"{edit.note} (file saved anew)".strip()
            client_id = hashlib.sha256(f"{edit.client_id} {now}".encode()).hexdigest()[:32]
            edit = replace(edit, image_sha256=now, note=note, client_id=client_id)
        result.append(edit)
    return result


def _open_data(o: ImportOptions) -> tuple[DataModule, Run | None]:
    """The data set with its split as the run has it, or as the options and the defaults of `Settings` say."""
    run = Run(o.run) if o.run else None
    given = {"dataset": o.dataset, "dataset_path": o.dataset_path, "val_fraction": o.val_fraction}
    given["group_by"] = o.group_by
    given = {key: value for key, value in given.items() if value is not None}
    if o.skip_bad_images:
        given["skip_bad_images"] = True
    if run:
        s = replace(run.settings(), **given)
    else:
        dataset = o.dataset or OWN_MASKS.get(o.kind) or ("cub200_2011" if o.kind in GAZE else None)
        if dataset is None:
            raise UserError(f"--dataset is missing; the valid ones are {listed(list(DATASETS))}")
        s = Settings(**{**given, "dataset": dataset, "seed": o.seed})
    if s.dataset != OWN_MASKS.get(o.kind, s.dataset):
        raise UserError(
            f"--from {o.kind} reads the masks of {OWN_MASKS[o.kind]}; the data set is {s.dataset}"
        )
    cut_anew = {"dataset", "val_fraction", "group_by"} & given.keys()
    if run and not cut_anew:
        return run.open_data(settings=s), run
    data = open_data(s)
    if run:
        run.check_classes(data)
    return data, run


def _part(data: DataModule, split: str) -> Part:
    if split == "val" and data.val is None:
        raise UserError(
            "the data set has no val part and --val_fraction is 0; there is nothing to edit in it"
        )
    return data.part(split)


def _targets(o: ImportOptions, part: Part, source: Source, account: Account) -> dict[int, np.ndarray]:
    """Where the attention belongs, float [gh, gw] in 0..1, by position; the account tells of the others."""

    large: list[str] = []

    def read_one(i: int) -> tuple[np.ndarray | str, bool]:
        pixels = source.read(i)
        if pixels is None:
            return "missing", False
        if o.mask_edit not in ("soft", BY_LABEL) and np.mean(pixels >= MARKED) > NEARLY_ALL:
            large.append(part.ids[i])
        return _target(o, pixels, account.grid), pixels.shape != image_size(part, i)

    results = for_each_file(read_one, len(part), min(os.cpu_count() or 1, MAX_WORKERS), "read masks")
    bad = [result for result in results if isinstance(result, BadImage)]
    if bad and not part.skip_bad_images:
        raise UserError(f"not imported, repair or skip with --skip_bad_images: {listed(bad, between='; ')}")
    targets = {}
    for i, (image_id, result) in enumerate(zip(part.ids, results, strict=True)):
        found, resized = ("bad", False) if isinstance(result, BadImage) else result
        if isinstance(found, str):
            account.without[found].append(image_id)
        else:
            targets[i] = found
        if resized:
            account.resized.append(image_id)
    account.editable = len(targets)
    account.learn(source)
    if len(large) * 2 > len(part) - len(account.without["missing"]):
        account.told[INVERTED] = sorted(large)
    if len(account.without["missing"]) == len(part):
        raise UserError(_nothing_found(part, source))
    if not targets:
        what = [f"{len(ids)} {account.reason(reason)}" for reason, ids in account.without.items() if ids]
        raise UserError(f"none of the {len(part)} images of {part.name} can be edited: {', '.join(what)}")
    return targets


def _nothing_found(part: Part, source: Source) -> str:
    """That no image has a map, with what lies there and what the images are called."""
    there = f"; it has the names {listed(source.names, 3)}" if source.names else "; nothing is marked there"
    several = [f"{what}: {listed(sorted(names), 3)}" for what, names in source.told.items()]
    images = f"; the images are called {listed(part.ids, 3)}"
    return "; ".join(
        [f"no image of {part.name} has a mask or map in {source.where}{there}{images}", *several]
    )


def _target(o: ImportOptions, pixels: np.ndarray, grid: tuple[int, int]) -> np.ndarray | str:
    """The target of a map [h, w], or why it gives no edit (a key of COUNTED)."""
    if pixels.size == 0 or np.abs(pixels).max() < MARKED:
        return "empty"
    if o.mask_edit == BY_LABEL:
        cells = labelled_cells(pixels, grid, o.covered)
        return "small" if np.isnan(cells).all() else cells
    if o.mask_edit == "soft":
        return cell_means(pixels, grid)
    inside = cells_inside(pixels, grid, o.covered)
    if not inside.any():
        return "small"
    if o.mask_edit == "background" and inside.all():
        return "full"
    return inside.astype(np.float64)


def _choose(o: ImportOptions, part: Part, candidates: np.ndarray, account: Account) -> np.ndarray:
    """Positions of the images that are edited: as many of the candidates as were asked for."""
    if o.count or o.fraction:
        account.wanted = o.count or max(1, round(o.fraction * len(part)))
    n = min(account.wanted or len(candidates), len(candidates))
    if o.select == "random":
        return np.sort(candidates[stratified(part.labels[candidates], n, o.seed)])
    if not n:
        raise UserError(
            f"--select {o.select} finds no image among the {account.editable} of {part.name} that have a mask"
        )
    return candidates[:n]


def _stored(o: ImportOptions, part: Part, i: int, target: np.ndarray, weights: str) -> StoredEdit:
    random = np.random.default_rng([o.seed, i])
    wrong = random.random() < o.wrong
    if wrong:
        target = random.integers(2, size=target.shape).astype(np.float64)
    value, edited = cell_edit(target, o.mask_edit, o.object_value)
    edited &= random.random(edited.shape) >= o.missing
    note = f"from {o.kind}{' (boxes)' * o.boxes}, {o.mask_edit}"
    note += "" if o.mask_edit == "soft" else f", covered {o.covered:g}"
    note += f", --mask_value {' '.join(o.mask_value)}" * bool(o.mask_value) + ", --inverted" * o.inverted
    note += f", {o.missing:g} of the cells left out" * (o.missing > 0) + ", a random map" * wrong
    note += ", the data set's ink in the place of a person" * (o.kind == "ink")
    return StoredEdit(
        part.ids[i], part.sha256(i), value, edited, o.author or o.kind, note=note, weights_sha256=weights
    )
