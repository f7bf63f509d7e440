"""Human attention from files that people made: masks, boxes, heat maps and gaze become edits in a store.

    options = ImportOptions("masks", ["masks"], dataset="folder", dataset_path="tiles", grid="8x8")
    print(import_edits(options).text())

`sources` and `gaze` read a map in 0..1 over each whole image, `cells` makes an edit of it on a patch grid,
`selection` chooses the images that are edited, `importing` does all of it and keeps the account. `cover` says
which cells people marked, for the network's own attention to be measured against.
"""

from sigmoid_vit.human_attention.cells import MASK_EDITS, cell_means
from sigmoid_vit.human_attention.cover import Marked, marked_cells
from sigmoid_vit.human_attention.gaze import SIGMA, gaze_map, read_fixations
from sigmoid_vit.human_attention.importing import Account, import_edits
from sigmoid_vit.human_attention.options import ImportOptions
from sigmoid_vit.human_attention.selection import SELECTIONS
from sigmoid_vit.human_attention.sources import SOURCES, read_map

__all__ = [
    "MASK_EDITS",
    "SELECTIONS",
    "SIGMA",
    "SOURCES",
    "Account",
    "ImportOptions",
    "Marked",
    "cell_means",
    "gaze_map",
    "import_edits",
    "marked_cells",
    "read_fixations",
    "read_map",
]
