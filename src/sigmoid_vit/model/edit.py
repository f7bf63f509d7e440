"""An edit: values in 0..1 that a person wants the sigmoid attention to take, and where they hold."""

import copy
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sigmoid_vit.errors import UserError

EPS = 1e-6  # values are clamped to [EPS, 1 - EPS] before the logit; logit(EPS) = -13.8
QUERIES = ("cls", "all")
LAYERS = ("last", "all")


@dataclass
class LayerEdit:
    """An edit as attention meets it: over all N keys; prefix tokens (class, registers) are never edited."""

    logit: Tensor  # [B, 1 or H, N], logit of the clamped value; 0 where not edited
    edited: Tensor  # bool [B, 1 or H, N]
    queries: str  # "cls" or "all"


@dataclass
class AttentionEdit:
    """Edited sigmoid attention of a batch of B images on a patch grid [gh, gw], with its scope.

    Args:
        value: float [B, gh, gw], or [B, H, gh, gw] for values per head; in [0, 1], finite everywhere.
        edited: bool, same shape. False: the network keeps its own attention logit there; an image whose
            cells are all False is not edited.
        layers: "last", "all", a block index or a sequence of them (negative counts from the end).
        heads: None for all heads, or a sequence of head indices.
        queries: "cls", the class token's row only, or "all", every row, so that the information of an
            erased patch reaches no token.

    Raises:
        UserError: a wrong type or shape, a value outside [0, 1], NaN, an unknown scope.
    """

    value: Tensor
    edited: Tensor
    layers: str | int | Sequence[int] = "all"
    heads: Sequence[int] | None = None
    queries: str = "all"

    def __post_init__(self) -> None:
        value, edited = self.value, self.edited
        if not (isinstance(value, Tensor) and value.is_floating_point()):
            raise UserError(f"the edit's value must be a float tensor, not {_kind(value)}")
        if not (isinstance(edited, Tensor) and edited.dtype == torch.bool):
            raise UserError(f"the edit's mask must be a bool tensor, not {_kind(edited)}")
        if value.ndim not in (3, 4):
            raise UserError(
                f"the edit's value has shape {list(value.shape)}; it must be [B, gh, gw] or [B, H, gh, gw]"
            )
        if edited.shape != value.shape:
            raise UserError(f"the edit's mask is {list(edited.shape)} but its value is {list(value.shape)}")
        outside = ~((value >= 0) & (value <= 1))  # true for NaN as well
        if outside.any():
            raise UserError(
                f"the edit holds the value {value[outside][0].item():g}; values must lie in [0, 1] "
                "(0 removes a patch, 1 makes it dominate)"
            )
        if self.queries not in QUERIES:
            raise UserError(f"unknown queries {self.queries!r}; an edit applies to one of {QUERIES}")
        if not (isinstance(self.layers, str) and self.layers in LAYERS):
            as_indices(self.layers, f"layers must be one of {LAYERS} or block indices")
        if self.heads is not None:
            if isinstance(self.heads, int):
                raise UserError(f"heads must be None or a sequence of head indices, not {self.heads}")
            as_indices(self.heads, "heads must be None or a sequence of head indices")

    def __len__(self) -> int:
        return self.value.shape[0]

    @property
    def grid(self) -> tuple[int, int]:
        """The patch grid (gh, gw) of the edit."""
        return tuple(self.value.shape[-2:])

    @property
    def everywhere(self) -> bool:
        """Whether the edit holds for all layers, all heads alike and all query rows."""
        return (self.layers, self.heads, self.queries, self.value.ndim) == ("all", None, "all", 3)

    def __getitem__(self, images: Tensor | slice) -> "AttentionEdit":
        """The edit of some images of the batch, in the given order."""
        return self._with(self.value[images], self.edited[images])

    def to(self, device: torch.device | str) -> "AttentionEdit":
        """The same edit on another device."""
        return self._with(self.value.to(device), self.edited.to(device))

    def resize(self, grid: tuple[int, int]) -> "AttentionEdit":
        """The edit on another grid: values bilinear over edited cells; a cell is edited when half covered."""
        if tuple(grid) == self.grid:
            return self
        value, edited = (t.unsqueeze(1) if t.ndim == 3 else t for t in (self.value, self.edited))
        weight = edited.to(value.dtype)
        resample = {"size": tuple(grid), "mode": "bilinear", "antialias": True, "align_corners": False}
        cover = F.interpolate(weight, **resample)
        value = F.interpolate(value * weight, **resample) / cover.clamp_min(torch.finfo(value.dtype).tiny)
        shape = (*self.value.shape[:-2], *grid)
        return self._with(value.clamp(0, 1).reshape(shape), (cover >= 0.5 - 1e-6).reshape(shape))

    def over_keys(
        self, batch: int, grid: tuple[int, int], num_heads: int, num_prefix: int, device: torch.device
    ) -> LayerEdit:
        """The edit as logits over N = num_prefix + gh * gw keys, for a batch of a model with this grid.

        Raises:
            UserError: the edit is for another grid, batch size or number of heads.
        """
        if self.grid != grid:
            raise UserError(
                f"the edit's grid is {self.grid}, the model's {grid}; edit.resize({grid}) converts it"
            )
        if len(self) != batch:
            raise UserError(f"the edit is for {len(self)} images, the batch has {batch}")
        value, edited = self.value.to(device), self.edited.to(device)
        if value.ndim == 3:
            value, edited = value.unsqueeze(1), edited.unsqueeze(1)
        elif value.shape[1] not in (1, num_heads):
            raise UserError(f"the edit has values for {value.shape[1]} heads, the model has {num_heads}")
        if self.heads is not None:
            in_scope = torch.zeros(num_heads, 1, 1, dtype=torch.bool, device=device)
            in_scope[resolve_indices(self.heads, num_heads, "head")] = True
            edited = edited & in_scope
        value = value.to(torch.promote_types(value.dtype, torch.float32))
        logit = value.clamp(EPS, 1 - EPS).logit().masked_fill(~edited, 0)
        logit, edited = (F.pad(t.flatten(2), (num_prefix, 0)) for t in (logit, edited))
        return LayerEdit(logit, edited, self.queries)

    def _with(self, value: Tensor, edited: Tensor) -> "AttentionEdit":
        other = copy.copy(self)  # already validated: the values are not checked again
        other.value, other.edited = value, edited
        return other


def resolve_indices(spec: str | int | Sequence[int], count: int, what: str) -> list[int]:
    """Indices of layers or heads as a sorted list.

    Args:
        spec: "last", "all", an index or a sequence of indices; negative counts from the end.
        count: how many there are.
        what: their name in the error, "layer" or "head".
    """
    if isinstance(spec, str) and spec in LAYERS:
        return [count - 1] if spec == "last" else list(range(count))
    indices = as_indices(spec, f"{what}s must be one of {LAYERS} or indices from 0 to {count - 1}")
    for i in indices:
        if not -count <= i < count:
            raise UserError(f"unknown {what} {i}; the model has {what}s 0 to {count - 1}")
    return sorted({i % count for i in indices})


def as_indices(given: int | Sequence[int], rule: str) -> list[int]:
    """An index, or a sequence of them, of any integer type (numpy's, torch's) as a list of ints, in order.

    Raises:
        UserError: it is something else; `rule` says what it must be.
    """
    for candidates in ([given], given):
        try:
            if not any(isinstance(i, (bool, str)) for i in candidates):
                return [operator.index(i) for i in candidates]
        except TypeError:
            continue
    raise UserError(f"{rule}, not {given!r}")


def _kind(x: object) -> str:
    return f"a {x.dtype} tensor" if isinstance(x, Tensor) else type(x).__name__
