"""The edit of one image as the store has it: its rules, and how a row of the store holds it."""

import json
import numbers
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from sigmoid_vit.edits.sqlite_file import digest, require_digest
from sigmoid_vit.errors import UserError
from sigmoid_vit.model.edit import AttentionEdit, as_indices

PROPAGATED = "propagated"  # the author of edits that propagation made


@dataclass(frozen=True, eq=False)
class StoredEdit:
    """The edit of one image, as it is saved and read back. Equal when all fields are, arrays included.

    To save a changed copy of an edit that was read: `replace(edit, value=..., client_id=None)`.
    """

    image_id: str
    image_sha256: str
    value: np.ndarray  # float32 [gh, gw] or [H, gh, gw], in 0..1
    edited: np.ndarray  # bool, same shape; False: the network keeps its own attention
    author: str
    layers: str | list[int] = "all"  # scope, as in `AttentionEdit`
    heads: list[int] | None = None
    queries: str = "all"
    note: str = ""
    weights_sha256: str = ""  # of the weights whose attention the author looked at
    confidence: float | None = None  # in 0..1; of a propagated edit (author "propagated") only
    client_id: str | None = None  # one per save, so that a repeated save is one; None: the store makes it
    # set by the store
    revision: int | None = None
    base: int | None = None  # the image's revision before this one; None: this is its first
    created: str | None = None  # UTC, ISO 8601
    deleted: bool = False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoredEdit):
            return NotImplemented
        pairs = [(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)

    def attention_edit(self) -> AttentionEdit:
        """The edit as the network takes it, a batch of one: value [1, gh, gw] or [1, H, gh, gw]."""
        value, edited = torch.tensor(self.value)[None], torch.tensor(self.edited)[None]
        return AttentionEdit(value, edited, self.layers, self.heads, self.queries)

    def on_grid(self, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Value float32 and edited bool on a grid, [gh, gw]; values per head as the mean of the edited."""
        moved = self.attention_edit().resize(grid)
        value, edited = moved.value[0], moved.edited[0]
        if value.ndim == 3:
            value, edited = (value * edited).sum(0) / edited.sum(0).clamp(min=1), edited.any(0)
        return value, edited


def validated(edit: StoredEdit) -> StoredEdit:
    """The edit with plain types (float32, bool, lists of int); `UserError` if it breaks a rule."""
    value, edited = edit.value, edit.edited
    if not (isinstance(value, np.ndarray) and value.dtype.kind == "f" and isinstance(edited, np.ndarray)):
        raise UserError("an edit's value must be an array of floats, its mask an array of bools")
    if value.ndim not in (2, 3) or value.size == 0:
        raise UserError(f"the edit has shape {list(value.shape)}; it must be [gh, gw] or [H, gh, gw]")
    for name in ("image_id", "image_sha256", "author", "note", "weights_sha256", "client_id", "created"):
        text, optional = getattr(edit, name), name in ("client_id", "created")
        if not (isinstance(text, str) or (text is None and optional)):
            raise UserError(f"the edit's {name} must be a text, not {text!r}")
    if not (edit.image_id and edit.author):
        raise UserError("an edit needs an image id and an author")
    if edit.confidence is not None:
        known = isinstance(edit.confidence, numbers.Real) and 0 <= edit.confidence <= 1
        if not (known and edit.author == PROPAGATED):
            raise UserError(f"confidence {edit.confidence!r} not in [0, 1] or not of a {PROPAGATED!r} edit")
        edit = replace(edit, confidence=float(edit.confidence))
    layers, heads = _scope("layers", edit.layers, ("last", "all")), _scope("heads", edit.heads, (None,))
    value, edited = value.astype(np.float32), edited.copy()
    edit = replace(edit, value=value, edited=edited, layers=layers, heads=heads, deleted=bool(edit.deleted))
    edit.attention_edit()  # knows the other rules
    return edit


def _scope(name: str, given: object, names: tuple) -> str | list[int] | None:
    if (given is None or isinstance(given, str)) and given in names:
        return given
    return as_indices(given, f"{name} must be one of {names} or a list of indices")


def signed(edit: StoredEdit, author: str, client_id: str | None, deleted: bool) -> StoredEdit:
    """The content of an earlier revision, now by this author."""
    confidence = edit.confidence if author == PROPAGATED else None
    changes = {"client_id": client_id, "created": None, "deleted": deleted, "confidence": confidence}
    return validated(replace(edit, author=author, **changes))


def to_row(edit: StoredEdit) -> dict[str, object]:
    *num_heads, gh, gw = edit.value.shape
    row = {field.name: getattr(edit, field.name) for field in fields(edit)}
    row |= {"num_heads": num_heads[0] if num_heads else None, "gh": gh, "gw": gw}
    row |= {"value": edit.value.astype("<f4").tobytes(), "edited": np.packbits(edit.edited).tobytes()}
    row |= {"layers": json.dumps(edit.layers), "heads": json.dumps(edit.heads), "deleted": int(edit.deleted)}
    return row | {"digest": digest(row)}


def from_row(row: dict[str, object]) -> StoredEdit:
    require_digest(row)
    shape = [size for size in (row.pop("num_heads"), row.pop("gh"), row.pop("gw")) if size is not None]
    row["value"] = np.frombuffer(row["value"], "<f4").astype(np.float32).reshape(shape)
    bits = np.unpackbits(np.frombuffer(row["edited"], np.uint8), count=row["value"].size)
    row["edited"] = bits.astype(bool).reshape(shape)
    row |= {"layers": json.loads(row["layers"]), "heads": json.loads(row["heads"])}
    return StoredEdit(**row | {"deleted": bool(row["deleted"])})
