"""Pictures: every figure is a function that returns a matplotlib Figure; `save` writes it as PNG and PDF.

Colours are even to the eye and safe for the colour-blind (cividis, viridis); attention is shown on 0..1.
"""

from sigmoid_vit.plots.attention import (
    attention_grid,
    attention_layers,
    attention_map,
    edited_answer,
    insertion_deletion,
)
from sigmoid_vit.plots.comparison import before_after, outcomes
from sigmoid_vit.plots.predictions import (
    BINS,
    NAMED,
    calibration,
    confusion_matrix,
    mpp_histogram,
    per_class_accuracy,
    top_k,
)
from sigmoid_vit.plots.style import NAME, save, short, style
from sigmoid_vit.plots.training import learning_curves

__all__ = [
    "BINS",
    "NAME",
    "NAMED",
    "attention_grid",
    "attention_layers",
    "attention_map",
    "before_after",
    "calibration",
    "confusion_matrix",
    "edited_answer",
    "insertion_deletion",
    "learning_curves",
    "mpp_histogram",
    "outcomes",
    "per_class_accuracy",
    "save",
    "short",
    "style",
    "top_k",
]
