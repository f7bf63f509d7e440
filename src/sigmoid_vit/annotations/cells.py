"""From a map over the whole image to an edit on the patch grid."""

import numpy as np

KEEP, ERASE = "keep", "erase"  # labels of shapes in an annotation tool, as `tool_export` writes them
BY_LABEL = "labels"
MASK_EDITS = ("background", "object", "both", "soft", BY_LABEL)
MARKED = 0.5  # a pixel of a map counts as marked from this value on


def cell_means(pixels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Mean of a map [h, w] over each cell of a grid: float64 [gh, gw].

    The grid spans the whole map. A pixel that cell borders cut counts with the share of it in each cell, so
    that any size goes with any grid, exactly.
    """
    rows, columns = (_shares(cells, n) for cells, n in zip(grid, pixels.shape, strict=True))
    return rows @ pixels.astype(np.float64) @ columns.T


def cells_inside(pixels: np.ndarray, grid: tuple[int, int], covered: float) -> np.ndarray:
    """Cells of which at least the share `covered` is marked: bool [gh, gw]; 0 asks for any marked pixel."""
    cover = cell_means(pixels >= MARKED, grid)
    return (cover >= covered - 1e-9) & (cover > 0)


def labelled_cells(pixels: np.ndarray, grid: tuple[int, int], covered: float) -> np.ndarray:
    """Cells labelled KEEP (pixels of 1) as 1, ERASE (of -1) as 0, the others as nan: float64 [gh, gw].

    A cell of which both are at least the share `covered` is what most of it is.
    """
    keep, erase = (cells_inside(sign * pixels, grid, covered) for sign in (1, -1))
    mostly_keep = cell_means(pixels, grid) > 0
    cells = np.full(grid, np.nan)
    cells[erase], cells[keep & (mostly_keep | ~erase)] = 0, 1
    return cells


def cell_edit(target: np.ndarray, mask_edit: str, object_value: float) -> tuple[np.ndarray, np.ndarray]:
    """Value and edited cells of an edit.

    Args:
        target: float [gh, gw] in 0..1, how much of the attention belongs in each cell: 1 inside and 0 outside
            a mask, any value for "soft", nan where "labels" leaves it to the network.
        mask_edit: "background", cells outside become 0 and those inside are left to the network; "object",
            cells inside become `object_value` and the rest is left; "both"; "soft", every cell becomes its
            target; "labels", cells of 1 become `object_value`, those of 0 become 0.

    Returns:
        value float32 [gh, gw], 0 where not edited, and edited bool [gh, gw].
    """
    inside = target > 0
    value = target if mask_edit == "soft" else inside * object_value * (mask_edit != "background")
    everywhere = np.ones_like(inside)
    edited = {"background": ~inside, "object": inside, BY_LABEL: ~np.isnan(target)}.get(mask_edit, everywhere)
    return value.clip(0, 1).astype(np.float32), edited


def _shares(cells: int, n: int) -> np.ndarray:
    """Share of each cell's length that each of n pixels fills: float64 [cells, n], rows sum to 1."""
    border = np.arange(cells + 1)[:, None] * n / cells
    pixel = np.arange(n)
    overlap = np.minimum(border[1:], pixel + 1) - np.maximum(border[:-1], pixel)
    return overlap.clip(min=0) * cells / n
