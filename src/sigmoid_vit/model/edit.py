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
    """An edit as attention meets it, over the P patches: its logits take the place of the network's own.

    Where nothing is edited, `logit` is added to the own; that of an edit is 0 there.
    """

    logit: Tensor  # [B, 1 or H, P], logit of the clamped value
    edited: Tensor  # bool [B, 1 or H, P]
    queries: str  # "cls" or "all"
    pooling: bool  # whether it holds for a head that pools the patches, too

    def over(self, keys: int) -> tuple[Tensor, Tensor]:
        """`edited` and `logit` over N keys, [B, 1 or H, N]: prefix tokens come first and are never edited."""
        prefix = (keys - self.edited.shape[-1], 0)
        return F.pad(self.edited, prefix), F.pad(self.logit, prefix)


@dataclass
class AttentionEdit:
    """Edited sigmoid attention of a batch of B images on a patch grid [gh, gw], with its scope.

    Args:
        value: float [B, gh, gw], or [B, H, gh, gw] for values per head; in [0, 1], finite everywhere. The
            edit of one image, B = 1, holds for every image of a batch.
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
        if not torch.compiler.is_compiling() and outside.any():
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

    def over_patches(
        self, batch: int, grid: tuple[int, int], num_heads: int, device: torch.device
    ) -> LayerEdit:
        """The edit as logits over gh * gw patches, for a batch of a model with this grid.

        Raises:
            UserError: the edit is for another grid, batch size or number of heads.
        """
        if self.grid != grid:
            raise UserError(
                f"the edit's grid is {self.grid}, the model's {grid}; edit.resize({grid}) converts it"
            )
        if len(self) not in (1, batch):
            raise UserError(f"the edit is for {len(self)} images, the batch has {batch}")
        value, edited = (t.to(device).expand(batch, *t.shape[1:]) for t in (self.value, self.edited))
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
        return LayerEdit(logit.flatten(2), edited.flatten(2), self.queries, self.everywhere)

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
