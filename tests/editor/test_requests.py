"""Wrong input of every kind: refused with a status of 4xx and a sentence, and nothing is stored."""

import json
import re
import secrets
from urllib.parse import quote

import anyio
import numpy as np
import pytest
from helpers.editing import BINARY, JSON, OWN, Page, app_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from sigmoid_vit import AttentionEdit
from sigmoid_vit.editor import api_post, request_fields, security
from sigmoid_vit.editor.responses import Refused

CHANGES = ("edit", "delete", "restore", "accept", "skip")


@pytest.fixture
def page(session):
    """A fresh app on a session that all tests of this module share."""
    return Page(app_of(session), raise_server_exceptions=False)


@pytest.fixture
def refused(page):
    """Checks that an response is a refusal of one sentence; at the end, that nothing was stored."""
    before = page.session.edits.store.history()

    def check(response, status=400):
        assert response.status_code == status, response.text
        assert re.fullmatch(r"[^\n/]{10,200}", response.json()["error"])

    yield check
    assert page.session.edits.store.history() == before


# ---------------------------------------------------------------- bodies


def test_too_large_a_body_is_refused_before_it_is_read(page, refused, monkeypatch):
    def pieces():
        for _ in range(100):
            yield b"x" * 10_000

    def stream(name):
        headers = {"Origin": OWN, "Content-Type": BINARY}
        params = {"base": "none", "client_id": secrets.token_hex(8)}
        return page.http.post(f"/api/images/9/{name}", params=params, content=pieces(), headers=headers)

    for name in (*CHANGES, "predict"):
        refused(stream(name), 413)  # its length is not announced
        refused(page.change(f"images/9/{name}", b"x" * 4097), 413)
    monkeypatch.setattr(api_post, "read_body", lambda request, limit: security.read_body(request, 10**12))
    assert stream("edit").status_code == page.change("images/9/edit", b"x" * 4097).status_code == 400


@pytest.mark.parametrize(
    ("announced", "sent", "status", "taken"),
    [
        ("10", [b"0123456789"], None, 1),
        (None, [b"01234", b"56789"], None, 2),
        ("11", [b"x" * 11], 413, 0),
        ("9" * 400, [b"x"], 413, 0),
        (None, [b"123456"] * 9, 413, 2),
        ("3", [b"x" * 99], 413, 1),
        ("-5", [b"x"], 400, 0),
        ("1e3", [b"x"], 400, 0),
    ],
)
def test_how_much_of_a_body_is_read(announced, sent, status, taken):
    """With a limit of 10 bytes: how many pieces are taken before it is accepted or refused."""
    pieces = []

    async def receive():
        pieces.append(sent[len(pieces)])
        return {"type": "http.request", "body": pieces[-1], "more_body": len(pieces) < len(sent)}

    headers = [(b"content-length", announced.encode())] if announced else []
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    if status is None:
        assert anyio.run(security.read_body, request, 10) == b"".join(sent)
    else:
        with pytest.raises(Refused) as refused:
            anyio.run(security.read_body, request, 10)
        assert refused.value.status == status
    assert len(pieces) == taken


def bad_grids(page):
    """Grids with one wrong value, and grids with one wrong byte in the mask."""
    good = page.body(0.5)
    values = (np.nan, np.inf, -np.inf, -1e-6, 1.001, -1e30)
    return [np.float32(v).tobytes() + good[4:] for v in values], [
        good[:-1] + byte for byte in (b"\2", b"\xff")
    ]


def test_only_exact_grids_of_finite_values_are_taken(page, refused, monkeypatch):
    values, masks = bad_grids(page)
    lengths = [b"", page.body()[:-1], page.body() + b"\0", b"\0" * 36, b"\0" * 144]
    for name in ("predict", "edit"):
        for body in (*lengths, *values, *masks):
            refused(page.change(f"images/9/{name}", body))

    def unchecked(body, grid):
        value = np.frombuffer(body, "<f4", 36).reshape(grid).copy()
        return value, np.frombuffer(body, np.uint8, 36, offset=144).reshape(grid).astype(bool)

    def statuses(bodies):
        return {page.post("images/9/predict", body).status_code for body in bodies}

    monkeypatch.setattr(request_fields, "grid_of", unchecked)
    assert statuses([page.body() + b"\0"]) == statuses(masks) == {200}
    assert statuses(values) == {400}  # they are checked twice
    monkeypatch.setattr(AttentionEdit, "__post_init__", lambda self: None)
    assert 400 not in statuses(values)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"NaN", b"\xff\xfe", b"9" * 4090, b"[" * 4000, b'{"a":' * 800),
        *(b'{"reason": NaN}', b'{"reason": ""}', b'{"reason": " "}', b'{"reason": 3}', b'{"reason": ["x"]}'),
        *(b'{"other": "x"}', b'{"reason": "\\ud800"}', b'{"reason": "' + b"x" * 501 + b'"}'),
    ],
    ids=lambda body: body[:20].decode(errors="replace"),
)
def test_wrong_json_is_refused(page, refused, body):
    refused(page.change("images/0/skip", body, JSON, base=1))


# ---------------------------------------------------------------- parameters

BIG = "9" * 5000
READING = {
    "queue": f"order=x class=-1 class=10 class=NaN class=%00 class=٣ class={BIG} "
    f"limit=0 limit=1001 limit=NaN status=open search={'x' * 201}",
    "items": f"images=-1 images=130 images=NaN images=1e2 images=1, images=1,130 images={BIG} "
    f"images={','.join(['0'] * 1001)}",
    "images/0/attention": "layer=3 layer=-1 layer=NaN head=2 head=x query=36 query=-1 query=nan view=x",
    "images/0/decision": "explained=x explained=none explained=10 against=-1 against=x exact=x exact=1",
    "images/0/close_up": f"left=-1 left=x right=0 bottom=1 shrink=3 shrink=0 right={BIG} right=24&bottom=25",
    "images/0/edit": f"revision=x revision=-1 revision={BIG}",
    "images/0/region": f"x=0 y=0 x=0&y=10000 x=-1&y=0 x=NaN&y=1 x=0.5&y=0 x={BIG}&y=0",
}
CHANGING = {
    "predict": "layers=3 layers= layers=0, layers=first layers=NaN heads=2 heads=-1 queries=none",
    "edit": f"base= base=x base=0 base=-1 base=NaN base={BIG} client_id= client_id=xyz client_id={'a' * 65} "
    f"client_id=ABCDEF0123 author=propagated author=+propagated+ author={'x' * 101} note={'x' * 2001}",
    "restore": "revision= revision=x revision=-1",
    "accept": "base=none base=1",
}


def split(table):
    return [(where, wrong) for where, wrongs in table.items() for wrong in wrongs.split()]


@pytest.mark.parametrize(("where", "wrong"), split(READING), ids=lambda text: text[:30])
def test_wrong_parameters_of_reading_are_refused(page, refused, where, wrong):
    refused(page.http.get(f"/api/{where}?{wrong}"))


@pytest.mark.parametrize(("where", "wrong"), split(CHANGING), ids=lambda text: text[:30])
def test_wrong_parameters_of_changing_are_refused(page, refused, where, wrong):
    good = {"base": "1", "client_id": secrets.token_hex(8)}
    good.pop(wrong.split("=")[0], None)
    query = "&".join([*(f"{name}={value}" for name, value in good.items()), wrong])
    headers = {"Origin": OWN, "Content-Type": BINARY}
    refused(page.http.post(f"/api/images/0/{where}?{query}", content=page.body(), headers=headers))


def test_missing_parameters_are_refused(page, refused):
    some = {"base": "1", "client_id": "ab" * 8, "revision": "1"}
    for name in CHANGES:
        for missing in ("base", "client_id", *(["revision"] if name == "restore" else [])):
            params = {key: value for key, value in some.items() if key != missing}
            body = b'{"reason": "x"}' if name == "skip" else page.body()
            refused(page.post(f"images/0/{name}", body, **params))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"from": {"k": 0, "revision": 1}, "to": []}',
        b'{"from": {"k": 0, "revision": 1}, "to": [{"k": 1}]}',
        b'{"from": {"k": 0, "revision": 1}, "to": [{"k": 1, "base": null}, {"k": 1, "base": null}]}',
        b'{"from": {"k": 0, "revision": 1}, "to": [{"k": 0, "base": 1}]}',
        b'{"from": {"k": 0, "revision": 1}, "to": [{"k": -1, "base": null}]}',
        b'{"from": {"k": 0, "revision": 1}, "to": [{"k": true, "base": null}]}',
        b'{"from": {"k": 0, "revision": 1}, "to": [{"k": 1, "base": "2"}]}',
        b'{"from": {"k": 0, "revision": 1.0}, "to": [{"k": 1, "base": null}]}',
        b'{"from": {"k": "0", "revision": 1}, "to": [{"k": 1, "base": null}]}',
        b'{"from": {"k": 0, "revision": 1}, "to": [' + b'{"k": 1, "base": null},' * 3000 + b"]}",
    ],
    ids=range(13),
)
def test_one_edit_for_many_images_wants_a_valid_list(page, refused, body):
    refused(page.post("apply", body, JSON, client_id="ab" * 8), 413 if len(body) > 2**16 else 400)


def test_one_edit_for_many_images_wants_images_that_are_there(page, refused):
    def apply(k=0, revision=1, to=1, **params):
        body = json.dumps({"from": {"k": k, "revision": revision}, "to": [{"k": to, "base": None}]})
        return page.post("apply", body.encode(), JSON, **({"client_id": "ab" * 8} | params))

    refused(apply(to=130), 404)
    refused(apply(k=130), 404)
    refused(apply(revision=99), 404)
    refused(apply(k=1, to=2), 404)  # the revision is one of image 0
    refused(apply(author="propagated"))
    refused(apply(client_id="x"))
    refused(page.get("newest", images=",".join(map(str, range(201)))))


def test_images_and_files_are_found_by_their_names_only(page, refused):
    for k in ("-1", "130", "1e2", "NaN", "0x1", "train", "0%00", "٣", "..%2f..%2fetc%2fpasswd"):
        for what in ("", "/picture", "/edit"):
            refused(page.http.get(f"/api/images/{k}{what}"), 404)
    outside = "../app.py ..%2fapp.py %2e%2e/app.py ..%5capp.py //etc/passwd %2fetc%2fpasswd %00"
    for path in (*outside.split(), "x" * 5000):
        refused(page.http.get(f"/static/{path}"), 404)


# ---------------------------------------------------------------- whatever else may come

PLACES = (
    "edit",
    "delete",
    "restore",
    "accept",
    "skip",
    "predict",
    "attention",
    "decision",
    "picture",
    "history",
    "region",
    "close_up",
    "outline",
    "thumbnail",
    "first_step",
    "unchanged",
    "approve",
    "send_back",
)
PATHS = [
    "session",
    "queue",
    "items",
    "export",
    "images",
    "newest",
    "apply",
    "here",
    "leave",
    "accept_all",
    *(f"images/{k}/{what}" for k in (0, 999) for what in PLACES),
]
NAMES = """base client_id author note layers heads queries revision order class limit search status images
    layer head query view x y left top right bottom shrink explained against exact answer predicted"""
VALUES = st.sampled_from(["all", "none", "0", "1", "NaN", "-1", "cls", "rollout", "1e9", "abcdef012345"])
METHODS = ("GET", "POST", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(METHODS),
    path=st.sampled_from(PATHS) | st.text(max_size=20).map(quote),
    params=st.dictionaries(st.sampled_from(NAMES.split()), VALUES | st.text(max_size=30), max_size=6),
    body=st.binary(max_size=400) | st.just(b"\0" * 180) | st.just(b'{"reason": "x"}'),
    kind=st.sampled_from([BINARY, JSON, "text/plain"]),
)
def test_whatever_comes_gets_a_response(page, method, path, params, body, kind):
    """Never 5xx, and every refusal is JSON of one sentence that names no path of the machine."""
    headers = {"Origin": OWN, "Content-Type": kind}
    response = page.http.request(method, f"/api/{path}", params=params, content=body, headers=headers)
    assert response.status_code < 500
    if response.status_code >= 400 and method != "HEAD":
        assert re.fullmatch(r"[^\n]+", response.json()["error"])
        assert str(page.session.edits.store.path.parent) not in response.text
