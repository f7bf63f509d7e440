"""Annotations of people: masks, boxes, heat maps and gaze become edits in a store.

    options = ImportOptions(["masks", "masks"], dataset="folder", dataset_path="tiles", grid="8x8")
    print(import_edits(options).text())

`sources` opens what people marked as a map in 0..1 over each whole image: mask files (`mask_folder`,
`mask_files`), files of annotation tools (`formats`, `tool_source`), `gaze`. `cells` makes an edit of it on a
grid, `selection` chooses the images that are edited, `importing` does all of it and keeps the `account`.
`tool_export` writes edits for annotation tools. `marked` says which cells people marked, for the attention
of the network to be measured against.
"""

from sigmoid_vit.annotations.account import Account
from sigmoid_vit.annotations.cells import MASK_EDITS, cell_means
from sigmoid_vit.annotations.gaze import SIGMA, gaze_map, read_fixations
from sigmoid_vit.annotations.import_options import ImportOptions
from sigmoid_vit.annotations.importing import import_edits
from sigmoid_vit.annotations.marked import MarkedCells, marked_cells
from sigmoid_vit.annotations.mask_files import read_map
from sigmoid_vit.annotations.selection import SELECTIONS
from sigmoid_vit.annotations.sources import SOURCES

__all__ = [
    "MASK_EDITS",
    "SELECTIONS",
    "SIGMA",
    "SOURCES",
    "Account",
    "ImportOptions",
    "MarkedCells",
    "cell_means",
    "gaze_map",
    "import_edits",
    "marked_cells",
    "read_fixations",
    "read_map",
]
