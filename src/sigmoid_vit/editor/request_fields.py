"""The fields of a request, checked: every value in its range, or a refusal of one sentence."""

import json
import math
import re

import numpy as np
from starlette.requests import Request

from sigmoid_vit.editor.predictor import CLS
from sigmoid_vit.editor.responses import Refused
from sigmoid_vit.edits.store import PROPAGATED

TEXT_LENGTHS = {"author": 100, "note": 2000, "reason": 500, "search": 200}  # in characters
APPLIED = 200  # images that one edit is applied to at a time
POINTS = 10_000  # places along each side of an image that a point may have


def number(text: str, what: str, low: int = 0, high: int = 10**15, status: int = 400) -> int:
    """A whole number within low..high."""
    if re.fullmatch(r"[0-9]{1,16}", text) and low <= int(text) <= high:
        return int(text)
    raise Refused(status, f"{what} must be a whole number from {low} to {high}")


def position(request: Request, n: int) -> int:
    """The image that the address names, 0 to n - 1."""
    return number(request.path_params["k"], "the number of an image", 0, n - 1, status=404)


def images(request: Request, n: int, limit: int) -> list[int]:
    """The images=3,17,4 that the query string names, at most `limit` of them, each 0 to n - 1."""
    text = request.query_params.get("images", "")
    given = text.split(",", limit) if text else []
    if len(given) > limit:
        raise Refused(400, f"images must name at most {limit} images")
    return [number(each, "the number of an image", 0, n - 1) for each in given]


def optional_number(request: Request, name: str, default: int | None, **limits) -> int | None:
    """A number in the query string, or the default where it is left out or empty."""
    given = request.query_params.get(name)
    return number(given, name, **limits) if given else default


def share(request: Request, name: str) -> float:
    """A number from 0 to 1 in the query string."""
    given = request.query_params.get(name, "")
    if not re.fullmatch(r"0(\.[0-9]{1,9})?|1(\.0{1,9})?", given):
        raise Refused(400, f"{name} must be a number from 0 to 1, such as 0.95")
    return float(given)


def scope(request: Request, num_layers: int, num_heads: int, class_token: bool) -> dict:
    """layers=all|last|3|8,9, heads=all|2|0,1 and queries=all|cls as `StoredEdit` has them."""
    params = request.query_params
    layers, heads = params.get("layers", "all"), params.get("heads", "all")
    queries = params.get("queries", "all")
    if queries not in ("all", CLS) or (queries == CLS and not class_token):
        valid = "all or cls" if class_token else "all, as this network has no class token"
        raise Refused(400, f"queries must be {valid}")
    return {
        "layers": layers if layers in ("all", "last") else _indices(layers, "layers", num_layers),
        "heads": None if heads == "all" else _indices(heads, "heads", num_heads),
        "queries": queries,
    }


def query(request: Request, patches: int) -> int | str:
    """The query whose attention is shown: "cls" or the number of a patch."""
    given = request.query_params.get("query", CLS)
    return CLS if given == CLS else number(given, "query", 0, patches - 1)


def point(request: Request) -> tuple[float, float]:
    """A point (x, y) of an image as shares of its width and height; asked for in units of 1 / POINTS."""
    x, y = (number(request.query_params.get(name, ""), name, 0, POINTS - 1) for name in "xy")
    return (x + 0.5) / POINTS, (y + 0.5) / POINTS


def choice(request: Request, name: str, valid: tuple[str, ...]) -> str:
    """One of the valid values; the first where it is left out."""
    given = request.query_params.get(name, valid[0])
    if given not in valid:
        raise Refused(400, f"{name} must be one of {', '.join(valid)}")
    return given


def class_or_word(request: Request, name: str, words: tuple[str, ...], classes: int) -> int | str:
    """A class by its number, 0 to classes - 1, or one of the words; the first where it is left out."""
    given, what = request.query_params.get(name, words[0]), f"{name}, if not {' or '.join(words)},"
    return given if given in words else number(given, what, 0, classes - 1)


def text(request: Request, name: str) -> str:
    """A text of at most its length, without blanks around it; empty where it is left out."""
    return checked_text(request.query_params.get(name, ""), name)


def checked_text(given: object, name: str) -> str:
    limit = TEXT_LENGTHS[name]
    if not isinstance(given, str) or len(given) > limit:
        raise Refused(400, f"{name} must be a text of at most {limit} characters")
    return given.strip()


def author(request: Request, default: str) -> str:
    """Whose change it is; the default where nobody is named."""
    given = text(request, "author") or default
    if given == PROPAGATED:
        raise Refused(400, f"the author {PROPAGATED!r} is kept for edits that propagation made")
    return given


def base(request: Request) -> int | None:
    """The revision the person started from: its number, or none."""
    given = request.query_params.get("base")
    if given is None:
        raise Refused(400, "base is missing; it is the revision the change starts from, or none")
    return None if given == "none" else number(given, "base", 1)


def client_id(request: Request) -> str:
    """The name of one change, made by the page, so that the same change sent again is one."""
    return _name(request, "client_id", "new for every change")


def page(request: Request) -> str:
    """The name of the page that asks, made by itself."""
    return _name(request, "page", "another for every page")


def _name(request: Request, name: str, which: str) -> str:
    given = request.query_params.get(name, "")
    if not re.fullmatch(r"[0-9a-f]{8,64}", given):
        raise Refused(400, f"{name} must be 8 to 64 digits of 0-9 and a-f, {which}")
    return given


def grid_of(body: bytes, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Value float32 and edited bool [gh, gw] of a binary grid: all values, then a byte 0 or 1 for each."""
    cells = math.prod(grid)
    if len(body) != 5 * cells:
        gh, gw = grid
        raise Refused(400, f"a grid of {gh} x {gw} cells has {5 * cells} bytes, the body has {len(body)}")
    value = np.frombuffer(body, "<f4", cells).astype(np.float32).reshape(grid)
    edited = np.frombuffer(body, np.uint8, cells, offset=4 * cells).reshape(grid)
    if not ((value >= 0) & (value <= 1)).all():  # false for NaN as well
        raise Refused(400, "the values of a grid must be finite and lie in 0..1")
    if (edited > 1).any():
        raise Refused(400, "the mask of a grid must consist of bytes 0 and 1")
    return value, edited.astype(bool)


def grid_bytes(value: np.ndarray, edited: np.ndarray) -> bytes:
    """The binary grid that `grid_of` reads."""
    return value.astype("<f4").tobytes() + edited.astype(np.uint8).tobytes()


def reason(body: bytes) -> str:
    """The reason in the JSON body {"reason": "..."}."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    found = checked_text(content.get("reason", ""), "reason") if isinstance(content, dict) else ""
    if not found:
        raise Refused(400, 'the body must be the JSON {"reason": "..."} with a reason')
    return found


def application(body: bytes, n: int) -> tuple[int, int, list[tuple[int, int | None]]]:
    """The JSON {"from": {"k", "revision"}, "to": [{"k", "base"}, ...]}: which edit goes to which images.

    Returns:
        Image and revision of the edit, and number and base (None: no edit) of at most APPLIED other images.
    """
    try:
        content = json.loads(body)
        source, revision = (_whole(content["from"][name]) for name in ("k", "revision"))
        bases = {_whole(t["k"]): None if t["base"] is None else _whole(t["base"]) for t in content["to"]}
        is_each_one_once = len(bases) == len(content["to"]) and source not in bases
    except (ValueError, RecursionError, KeyError, TypeError):
        is_each_one_once, bases = False, {}
    if not (is_each_one_once and 0 < len(bases) <= APPLIED):
        shape = '{"from": {"k", "revision"}, "to": [{"k", "base"}, ...]}'
        raise Refused(400, f"the body must be the JSON {shape} with 1 to {APPLIED} other images, each once")
    if max(source, *bases) >= n:
        raise Refused(404, f"the number of an image must be a whole number from 0 to {n - 1}")
    return source, revision, list(bases.items())


def _whole(given: object) -> int:
    if type(given) is not int or not 0 <= given < 10**15:
        raise ValueError(given)
    return given


def _indices(given: str, what: str, count: int) -> list[int]:
    return [number(part, what, 0, count - 1) for part in given.split(",", count)]
