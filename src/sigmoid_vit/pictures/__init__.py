"""The pictures of a run: which figure of `plots` is drawn of what, and the same in numbers.

`evaluation` writes them into the run's folder, `notebook` shows them.
"""

from sigmoid_vit.pictures.attention import (
    LAYERS_SHOWN,
    attention_figure,
    attention_pictures,
    faithfulness,
    strongest_cell,
)
from sigmoid_vit.pictures.comparison import changed, edits, outcomes
from sigmoid_vit.pictures.one_edit import edited_answer
from sigmoid_vit.pictures.picture import Picture
from sigmoid_vit.pictures.predictions import prediction_pictures
from sigmoid_vit.pictures.training import learning_curves

__all__ = [
    "LAYERS_SHOWN",
    "Picture",
    "attention_figure",
    "attention_pictures",
    "changed",
    "edited_answer",
    "edits",
    "faithfulness",
    "learning_curves",
    "outcomes",
    "prediction_pictures",
    "strongest_cell",
]
