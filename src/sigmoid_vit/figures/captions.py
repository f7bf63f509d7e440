"""What stands beside the images of a picture: id, true class and prediction, as text and in numbers."""

from collections.abc import Sequence

from torch import Tensor

from sigmoid_vit.figures.style import NAME, short
from sigmoid_vit.model.readout import query_name
from sigmoid_vit.runs.network import Network, Predictions


def prediction_text(image_id: str, probabilities: Tensor, label: int, classes: Sequence[str]) -> str:
    """The id of an image, the class with most of the probabilities [K], and the true class; three lines."""
    (predicted, p), (true, p_true) = (
        (short(classes[k], NAME), float(probabilities[k])) for k in (int(probabilities.argmax()), label)
    )
    return f"{image_id}\npredicted {predicted} ({p:.0%})\ntrue {true} ({p_true:.0%})"


def prediction_texts(predictions: Predictions, chosen: list[int]) -> list[str]:
    """What `prediction_text` says of the images at these positions."""
    p, ids = predictions, predictions.part.part.ids
    return [prediction_text(ids[i], p.probabilities[i], int(p.labels[i]), p.network.classes) for i in chosen]


def change_texts(before: Predictions | None, after: Predictions, chosen: list[int]) -> list[str]:
    """Id, predictions before and after and the true class of the images at these positions."""
    if before is None:
        return prediction_texts(after, chosen)
    part, texts = after.part.part, []
    names = [short(name, NAME) for name in part.classes]
    for i, label in zip(chosen, after.labels[chosen].tolist(), strict=True):
        old, new = before.probabilities[i], after.probabilities[i]
        texts.append(
            f"{part.ids[i]}\n"
            f"before: {names[old.argmax()]} ({old.max():.0%})\n"
            f"after: {names[new.argmax()]} ({new.max():.0%})\n"
            f"true: {names[label]} ({old[label]:.0%} → {new[label]:.0%})"
        )
    return texts


def change_numbers(before: Predictions | None, after: Predictions, chosen: list[int]) -> dict:
    """By id of the images at these positions: the true class, and what both networks predict."""
    part, numbers = after.part.part, {}
    for i in chosen:
        label = int(after.labels[i])
        numbers[part.ids[i]] = {"true": part.classes[label]}
        for when, predictions in (("before", before), ("after", after)):
            if predictions:
                p = predictions.probabilities[i]
                numbers[part.ids[i]][when] = {
                    "prediction": part.classes[p.argmax()],
                    "probability": p.max(),
                    "probability of true": p[label],
                }
    return numbers


def query_names(before: Network | None, after: Network) -> str:
    """The query whose attention is shown, of both networks where they differ."""
    now = query_name(after.model)
    then = query_name(before.model) if before else now
    return now if now == then else f"before: {then}, after: {now}"
