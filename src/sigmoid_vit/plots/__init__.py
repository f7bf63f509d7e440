"""Pictures: every figure is a function that returns a matplotlib Figure; `save` writes it as PNG and PDF.

Colours are even to the eye and safe for the colour-blind (cividis, viridis); attention is shown on 0..1.
"""

from sigmoid_vit.plots.attention import attention_grid, attention_map, insertion_deletion
from sigmoid_vit.plots.comparison import before_after
from sigmoid_vit.plots.predictions import confusion_matrix, mpp_histogram
from sigmoid_vit.plots.style import save, style

__all__ = [
    "attention_grid",
    "attention_map",
    "before_after",
    "confusion_matrix",
    "insertion_deletion",
    "mpp_histogram",
    "save",
    "style",
]
