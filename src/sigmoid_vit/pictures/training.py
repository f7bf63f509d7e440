"""What the training of a run looked like."""

from sigmoid_vit import plots
from sigmoid_vit.pictures.picture import Picture
from sigmoid_vit.runs import Run
from sigmoid_vit.weights import load_checkpoint


def learning_curves(run: Run, which: str = "best") -> Picture | None:
    """Loss and accuracy by epoch; None for a run without a log."""
    history = run.history()
    if not history:
        return None
    kept = load_checkpoint(run.folder / f"{which}.pt").get("epoch")
    title = run.folder.resolve().name
    if run.edits.exists():
        title += "\nin training: with the edits, and the alignment with them in the loss"
    keys = ("loss", "val_loss", "accuracy", "val_accuracy")
    evaluated = next((line for line in history if line["epoch"] == kept), history[-1])
    numbers = {
        name: {key: line[key] for key in ("epoch", *keys) if key in line}
        for name, line in (("last epoch", history[-1]), ("epoch evaluated", evaluated))
    }
    numbers |= {
        f"{key} by epoch": [line.get(key) for line in history]
        for key in keys
        if any(key in line for line in history)
    }
    return Picture(plots.learning_curves(history, kept, title), numbers)
