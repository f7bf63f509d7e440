"""What the server sends: JSON in plain ASCII, predictions, and refusals of one sentence."""

import json

from starlette.responses import JSONResponse
from torch import Tensor

from sigmoid_vit.errors import UserError

TOP = 5  # classes of a prediction that are shown


class AsciiJson(JSONResponse):
    """JSON without NaN. Everything beyond ASCII is escaped, so that no name of a file can break it."""

    def render(self, content: object) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Refused(UserError):
    """A request that is not granted: its HTTP status (4xx, or 507 for a store that takes nothing)."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def refusal(status: int, sentence: str, headers: dict[str, str] | None = None, **facts: object) -> AsciiJson:
    """The response {"error": sentence, **facts}."""
    return AsciiJson({"error": sentence, **facts}, status, headers)


def top_classes(probabilities: Tensor, unedited: Tensor, label: int) -> dict:
    """A prediction as {"top": [{"class", "p", "before"}, ...]}, the most probable class first.

    These are the first TOP classes, the true one, and the first one without the edit.

    Args:
        probabilities: [K], under the edit.
        unedited: [K], without it: "before".
    """
    ranked = probabilities.argsort(descending=True, stable=True).tolist()
    wanted = {*ranked[:TOP], int(label), int(unedited.argmax())}
    pairs = zip(probabilities.tolist(), unedited.tolist(), strict=True)
    rows = [{"class": i, "p": p, "before": before} for i, (p, before) in enumerate(pairs) if i in wanted]
    return {"top": sorted(rows, key=lambda row: ranked.index(row["class"]))}
