"""What the server says: JSON in plain ASCII, and refusals of one sentence."""

import json

from starlette.responses import JSONResponse

from sigmoid_vit.errors import UserError


class Answer(JSONResponse):
    """JSON without NaN. Everything beyond ASCII is escaped, so that no name of a file can break it."""

    def render(self, content: object) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Refused(UserError):
    """A request that is not granted: its HTTP status (4xx, or 507 for a store that takes nothing)."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def refusal(status: int, sentence: str, headers: dict[str, str] | None = None, **facts: object) -> Answer:
    """The answer {"error": sentence, **facts}."""
    return Answer({"error": sentence, **facts}, status, headers)
