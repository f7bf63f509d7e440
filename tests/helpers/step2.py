"""Step 2 on the embedded digits: edits as a person would draw them, and a trainer that has read them."""

import numpy as np
from helpers.runs import settings

from sigmoid_vit.data import ink_grid, load_data
from sigmoid_vit.edits.store import EditStore, StoredEdit
from sigmoid_vit.training.trainer import Trainer


def ink_edits(part, positions, kind="both"):
    """Edits of these digits on a 6 x 6 grid: the ink kept and the rest erased, or one of the two alone."""
    edits, inks = [], ink_grid(part)
    for i in positions:
        cells = {"both": np.ones_like(inks[i]), "background": ~inks[i], "object": inks[i]}[kind]
        value = np.where(inks[i] & cells, 0.9, 0).astype(np.float32)
        edits.append(StoredEdit(part.ids[i], part.sha256(i), value, cells, "person"))
    return edits


def save_edits(path, edits):
    """Write the edits into a store and return its path as text."""
    with EditStore(path) as store:
        store.save_many(edits)
    return str(path)


def prepared(folder, *args):
    """A trainer that has read all it needs and has not trained yet."""
    trainer = Trainer(settings(folder, *args))
    trainer.prepare()
    return trainer


def edit_every_digit(path):
    """Write a store with an edit of every digit of train and val: its ink at 0.9, everything else at 0."""
    part = load_data("digits_decoy", val_fraction=0).train
    return save_edits(path, ink_edits(part, range(len(part))))
