"""Edits as a folder of open formats: all of them out of a store, and back without loss.

index.jsonl        one line per edit: every field but the arrays, keys sorted
edits.safetensors  "<revision>.value" float32 and "<revision>.edited" bool, [gh, gw] or [H, gh, gw]
export.json        written last: how many edits, and the SHA-256 of the two files above
maps/*.png         round(65535 * value), 16 bits; the maps of several heads below each other
edited/*.png       255 where the edit holds, 0 where the network keeps its own attention
masks.json         COCO annotations with uncompressed RLE: "edited", and "attended" where value >= threshold
agreement.json     how far people agree, see `agreement`; with the classes, if they are known
metadata.jsonl     `datasets.load_dataset("imagefolder", data_dir=...)`: images "image" (map) and "edited"

The first three are what `read_export` reads; the others are views of them for other programs.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image
from safetensors import SafetensorError

from sigmoid_vit.edits.agreement import agreement, as_json
from sigmoid_vit.edits.status import status_of
from sigmoid_vit.edits.store import EditStore, StoredEdit
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import sha256, write_atomically

FORMAT, VERSION = "sigmoid_vit edits", 1
ARRAYS = ("value", "edited")
INDEX, TENSORS, LAST = "index.jsonl", "edits.safetensors", "export.json"
CATEGORIES = ("edited", "attended")


def export_edits(
    store: EditStore,
    folder: str | Path,
    history: bool = False,
    threshold: float = 0.5,
    class_of: Mapping[str, str] | None = None,
) -> list[StoredEdit]:
    """Write the current edits, or all revisions, to a new folder.

    Args:
        folder: new or empty. An export that was killed leaves no export.json in it and is never imported.
        history: all revisions, deletions among them.
        threshold: of the masks in masks.json.
        class_of: the class of each image id, for agreement.json.

    Returns:
        The edits written, oldest first.

    Raises:
        UserError: the folder is not empty or does not take the files; the threshold is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"threshold {threshold} must lie in [0, 1]")
    everything = store.history()
    edits = everything if history else sorted(store.current_all().values(), key=lambda edit: edit.revision)
    folder = _make_folder(Path(folder))
    _write_views(folder, edits, threshold)
    tensors = {f"{edit.revision}.{name}": getattr(edit, name) for edit in edits for name in ARRAYS}
    _write(folder / TENSORS, safetensors.numpy.save(tensors))
    _write(folder / INDEX, _lines(_fields(edit) for edit in edits))
    facts = {"format": FORMAT, "version": VERSION, "edits": len(edits), "history": history}
    people = json.dumps(as_json(agreement([everything], class_of)), indent=2, ensure_ascii=False)
    _write(folder / "agreement.json", people.encode() + b"\n")
    facts |= {"statuses": dict(sorted(Counter(map(status_of, edits)).items()))}
    facts |= {"threshold": threshold, "sha256": {name: sha256(folder / name) for name in (INDEX, TENSORS)}}
    _write(folder / LAST, json.dumps(facts, indent=2).encode() + b"\n")
    return edits


def read_export(folder: str | Path) -> list[StoredEdit]:
    """The edits of an exported folder, in its order; `EditStore.save_many` adds them, all or none.

    They keep every field but `revision` and `base`, which the store counts itself; a whole history in an
    empty store keeps these too. Those that the store has already are not added again.

    Raises:
        UserError: the folder is incomplete, damaged or of a newer version.
    """
    folder = Path(folder)
    _require_whole(folder)
    try:
        rows = [json.loads(line) for line in (folder / INDEX).read_bytes().splitlines()]
        tensors = safetensors.numpy.load((folder / TENSORS).read_bytes())
        arrays = [{name: tensors[f"{row['revision']}.{name}"] for name in ARRAYS} for row in rows]
        return [StoredEdit(**row, **pair) for row, pair in zip(rows, arrays, strict=True)]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(_unusable(folder, error)) from error


def rle_encode(mask: np.ndarray) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths of a bool mask [h, w], down the columns, zeros first."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(mask.shape), "counts": np.diff([0, *starts, mask.size]).tolist()}


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; export to a new folder")
        for name in ("maps", "edited"):
            (folder / name).mkdir()
    except OSError as error:
        raise UserError(f"cannot export to {folder} ({error}); choose another folder") from error
    return folder


def _write_views(folder: Path, edits: list[StoredEdit], threshold: float) -> None:
    """The maps and masks for other programs; several heads lie below each other, [H * gh, gw]."""
    rows, images, annotations = [], [], []
    for edit in edits:
        value, edited = (getattr(edit, name).reshape(-1, edit.value.shape[-1]) for name in ARRAYS)
        names = {name: f"{name}/{edit.revision:08d}.png" for name in ("maps", "edited")}
        _write_png(folder / names["maps"], np.round(value * 65535.0).astype(np.uint16))
        _write_png(folder / names["edited"], edited.astype(np.uint8) * 255)
        rows.append(
            {"file_name": names["maps"], "edited_file_name": names["edited"], "status": status_of(edit)}
            | _flat(edit)
        )
        size = {"height": value.shape[0], "width": value.shape[1]}
        images.append({"id": edit.revision, "file_name": names["maps"], "image": edit.image_id} | size)
        for mask, category in ((edited, 1), (edited & (value >= threshold), 2)):
            number = len(annotations) + 1
            annotations.append(_annotation(mask, category) | {"id": number, "image_id": edit.revision})
    categories = [{"id": i, "name": name} for i, name in enumerate(CATEGORIES, 1)]
    coco = {"info": {"threshold": threshold}, "images": images, "annotations": annotations}
    _write(folder / "masks.json", json.dumps(coco | {"categories": categories}).encode())
    _write(folder / "metadata.jsonl", _lines(rows, sort_keys=False))


def _annotation(mask: np.ndarray, category: int) -> dict:
    """COCO's description of a mask; iscrowd says that it is run-length coded."""
    y, x = np.nonzero(mask)
    box = [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1] if len(x) else [0, 0, 0, 0]
    box = [int(side) for side in box]  # left, top, width, height
    facts = {"category_id": category, "area": len(x), "bbox": box, "iscrowd": 1}
    return facts | {"segmentation": rle_encode(mask)}


def _fields(edit: StoredEdit) -> dict[str, object]:
    return {field.name: getattr(edit, field.name) for field in fields(edit) if field.name not in ARRAYS}


def _flat(edit: StoredEdit) -> dict[str, object]:
    """The fields with one type per column, as tables need it: layers and heads as JSON."""
    return _fields(edit) | {"layers": json.dumps(edit.layers), "heads": json.dumps(edit.heads)}


def _lines(rows: Iterable[dict], sort_keys: bool = True) -> bytes:
    return b"".join(json.dumps(row, sort_keys=sort_keys, ensure_ascii=False).encode() + b"\n" for row in rows)


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))


def _write_png(path: Path, pixels: np.ndarray) -> None:
    try:
        Image.fromarray(pixels).save(path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error}); is the disk full or read-only?") from error


def _require_whole(folder: Path) -> None:
    if not (folder / LAST).is_file():
        raise UserError(f"{folder} is no whole export of edits: it has no {LAST}; export it again")
    try:
        facts = json.loads((folder / LAST).read_bytes())
        if (facts["format"], facts["version"]) != (FORMAT, VERSION):
            found = f"{facts['format']} {facts['version']}"
            raise UserError(f"{folder} holds {found}, known is {FORMAT} {VERSION}; update sigmoid_vit")
        damaged = [name for name in (INDEX, TENSORS) if sha256(folder / name) != facts["sha256"][name]]
    except (OSError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(_unusable(folder, error)) from error
    if damaged:
        raise UserError(f"{folder / damaged[0]} differs from what was exported; export it again")


def _unusable(folder: Path, error: Exception) -> str:
    return f"{folder} is no whole export of edits ({type(error).__name__}: {error}); export it again"
