"""Each sentence of the security model, attacked; and each protection taken out, to see the attack succeed."""

import json
import os
import secrets
import socket
import time
import urllib.request
from contextlib import suppress
from threading import Event, Thread

import pytest
from helpers.editing import (
    BINARY,
    OWN,
    SMALL,
    Page,
    all_predicted,
    app_of,
    make_images,
    make_run,
    open_page,
)
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.testclient import TestClient

from sigmoid_vit.editor import api_post, connection, security
from sigmoid_vit.editor import app as app_module
from sigmoid_vit.editor.responses import AsciiJson, refusal
from sigmoid_vit.editor.security import Policy, RequireKnownHost, RequireOwnPage, RequireToken, allowed_hosts
from sigmoid_vit.editor.server import Server
from sigmoid_vit.editor.session import EditorOptions
from sigmoid_vit.edits.store import EditStore

EVERYWHERE = (
    "/",
    "/static/main.js",
    "/static/none.js",
    "/none",
    "/api/session",
    "/api/none",
    "/api/images/0",
)
IMAGE = (
    "",
    "/edit",
    "/picture",
    "/thumbnail",
    "/attention",
    "/attention?view=rollout",
    "/decision",
    "/history",
)
READ = ("session", "queue", "items", "export", *(f"images/0{what}" for what in IMAGE))
CHANGES = ("edit", "delete", "restore", "accept", "skip", "unchanged", "approve", "send_back")
POSTS = (*CHANGES, "predict")


@pytest.fixture
def page(session):
    """A fresh app on a session that all tests of this module share."""
    return Page(app_of(session), raise_server_exceptions=False)


def revisions(page):
    return len(page.session.edits.store.history())


def good_parameters(page, k=9):
    """What any change of image k needs to be stored."""
    base = page.get(f"images/{k}").json()["newest"] or "none"
    return {"base": base, "client_id": secrets.token_hex(8), "revision": base}


# ---------------------------------------------------------------- Host

HOSTS = """evil.example evil.example:8765 127.0.0.1 127.0.0.1:80 127.0.0.1:87650 localhost.evil.example:8765
    evil.example@127.0.0.1:8765 127.0.0.1:8765.evil.example 0.0.0.0:8765 127.0.0.1:8765/"""


def with_host(page, path, host):
    return page.http.get(path, headers={"Host": host}).status_code


@pytest.mark.parametrize("path", EVERYWHERE)
def test_only_known_hosts_are_served_static_files_included(page, path, monkeypatch):
    for host in ("", *HOSTS.split()):
        assert with_host(page, path, host) == 403, host
    for host in ("127.0.0.1:8765", "localhost:8765", "LOCALHOST:8765", "[::1]:8765"):
        assert with_host(page, path, host) == page.http.get(path).status_code != 403
    monkeypatch.setattr(RequireKnownHost, "_is_known", lambda self, hosts: True)
    assert with_host(page, path, "evil.example") != 403


def test_two_host_headers_are_refused(page, monkeypatch):
    def ask():
        return page.http.get("/", headers=[("Host", "127.0.0.1:8765"), ("Host", "evil.example")]).status_code

    assert ask() == 403
    monkeypatch.setattr(RequireKnownHost, "_is_known", lambda self, hosts: True)
    assert ask() == 200


def test_names_are_allowed_one_by_one():
    own = {"127.0.0.1:80", "localhost:80", "[::1]:80"}
    more = {"192.168.0.5:80", "example.org", "hub.example:8000"}
    assert allowed_hosts("127.0.0.1", 80) == own
    assert allowed_hosts("192.168.0.5", 80, ["Example.org", "hub.example:8000"]) == own | more
    assert "[fe80::1]:80" in allowed_hosts("fe80::1", 80)


# ---------------------------------------------------------------- token

TOKENS = [None, "", "Bearer", "Bearer ", "secret", "bearer secret", "Basic c2VjcmV0", "Bearer\tsecret"]
TOKENS += [
    f"Bearer {token}" for token in ("wrong", "secre", "secrets", "Secret", "secret\xff", "secret,secret")
]


def with_token(page, token, path="session"):
    headers = {"Authorization": token.encode("latin-1")} if token is not None else {}
    return TestClient(page.http.app, base_url=OWN, headers=headers).get(f"/api/{path}").status_code


def test_everything_under_api_needs_the_token(page, monkeypatch):
    for token in TOKENS:
        for path in (*READ, "none", "images/0/predict"):
            assert with_token(page, token, path) == 401, (token, path)
    assert (
        with_token(page, None, "session?token=secret") == 401
    )  # not in the address, where logs would keep it
    assert with_token(page, "Bearer secret") == 200
    monkeypatch.setattr(RequireToken, "_is_held", lambda self, given: True)
    assert with_token(page, None) == 200


def test_a_change_without_token_stores_nothing(page, monkeypatch):
    def change():
        headers = {"Origin": OWN, "Content-Type": BINARY}
        client = TestClient(page.http.app, base_url=OWN, headers=headers)
        request = dict(params=good_parameters(page), content=page.body())
        return client.post("/api/images/9/edit", **request).status_code

    before = revisions(page)
    assert change() == 401
    assert revisions(page) == before
    monkeypatch.setattr(RequireToken, "_is_held", lambda self, given: True)
    assert change() == 200
    assert revisions(page) == before + 1


def test_the_token_is_compared_in_constant_time(page, monkeypatch):
    compared = []

    def compare_digest(given, expected):
        compared.append((given, expected))
        return given == expected

    monkeypatch.setattr(security.secrets, "compare_digest", compare_digest)
    assert with_token(page, "Bearer wrong") == 401
    assert compared == [(b"Bearer wrong", b"Bearer secret")]
    compared.clear()
    monkeypatch.setattr(RequireToken, "_is_held", lambda self, given: given.encode() == self.expected)
    assert with_token(page, "Bearer wrong") == 401
    assert not compared  # an ordinary comparison would be seen


def test_every_start_has_a_token_of_its_own():
    policies = [Policy(frozenset()) for _ in range(50)]
    assert len({policy.token for policy in policies}) == 50
    assert {len(policy.token) for policy in policies} == {43}  # 256 bits
    assert not any(policy.token in repr(policy) for policy in policies)


# ---------------------------------------------------------------- Origin, forms, other sites

ORIGINS = """null http://evil.example http://127.0.0.1 http://127.0.0.1:8766 https://evil.example:8765 file://
    http://127.0.0.1:8765.evil.example http://evil.example/127.0.0.1:8765 127.0.0.1:8765 http://127.0.0.1:8765/
    http://user@127.0.0.1:8765 ftp://127.0.0.1:8765 http://[ http://127.0.0.1:8765#x"""
FORMS = (
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "",
    "text/html",
)


def from_origin(page, origin, name):
    headers = {"Content-Type": BINARY} | ({} if origin is None else {"Origin": origin})
    request = dict(params=good_parameters(page), content=page.body(), headers=headers)
    return page.http.post(f"/api/images/9/{name}", **request).status_code


@pytest.mark.parametrize("name", POSTS)
def test_changes_come_from_the_own_page_only(page, name, monkeypatch):
    before = revisions(page)
    for origin in (None, "", f"{OWN} {OWN}", *ORIGINS.split()):
        assert from_origin(page, origin, name) == 403, origin
    assert revisions(page) == before
    for origin in (OWN, "http://localhost:8765", "https://[::1]:8765"):
        assert from_origin(page, origin, name) != 403
    monkeypatch.setattr(RequireOwnPage, "_is_own", lambda self, origins: True)
    assert from_origin(page, "http://evil.example", name) != 403


@pytest.mark.parametrize("name", POSTS)
def test_no_form_changes_anything(page, name, monkeypatch):
    before = revisions(page)
    for kind in FORMS:
        assert page.change(f"images/9/{name}", page.body(), kind).status_code == 415
    assert revisions(page) == before
    monkeypatch.setattr(security, "BODY_TYPES", (*security.BODY_TYPES, "text/plain"))
    assert page.change(f"images/9/{name}", page.body(), "text/plain").status_code != 415


def cors_headers(app):
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    client = TestClient(app, base_url=OWN, headers=asked)
    responses = [client.request(method, path) for method in ("GET", "OPTIONS", "POST") for path in EVERYWHERE]
    return [name for response in responses for name in response.headers if name.startswith("access-control-")]


def test_no_other_site_may_read(page):
    assert cors_headers(page.http.app) == []
    assert cors_headers(CORSMiddleware(page.http.app, allow_origins=["*"])) != []


# ---------------------------------------------------------------- reading changes nothing


def changed_without_post(page):
    """Which addresses change the store although they are asked by another method than POST."""
    changed = []
    for path in (*READ, *(f"images/9/{name}" for name in POSTS)):
        for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"):
            before, headers = revisions(page), {"Origin": OWN, "Content-Type": BINARY}
            request = dict(params=good_parameters(page), content=page.body(), headers=headers)
            response = page.http.request(method, f"/api/{path}", **request)
            assert response.status_code in (200, 400, 404, 405)
            if revisions(page) != before:
                changed.append((method, path))
    return changed


def test_nothing_changes_by_reading(session, page, monkeypatch):
    assert changed_without_post(page) == []
    any_method = [Route(r.path, r.endpoint, methods=["GET", "POST"]) for r in api_post.routes()]
    monkeypatch.setattr(app_module.api_post, "routes", lambda: any_method)
    assert ("GET", "images/9/restore") in changed_without_post(Page(app_of(session)))


# ---------------------------------------------------------------- the headers of every response

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}


def all_kinds_of_responses(page):
    yield from (page.http.get(path) for path in EVERYWHERE)
    yield from (page.get(path) for path in READ)
    yield page.http.get("/", headers={"Host": "evil.example"})
    yield page.http.get("/api/session", headers={"Authorization": ""})
    yield page.http.post("/api/images/0/edit")
    yield page.change("images/0/edit", b"x" * 5000)
    yield page.save(0, base=99)
    yield page.http.put("/")


def test_every_response_carries_the_headers(session, page, monkeypatch):
    seen = set()
    for response in all_kinds_of_responses(page):
        seen.add(response.status_code)
        assert {name: response.headers.get(name) for name in HEADERS} == HEADERS
        assert "server" not in response.headers
        assert "set-cookie" not in response.headers
    assert seen == {200, 401, 403, 404, 405, 409, 413}
    monkeypatch.setattr(Policy, "headers", lambda self: {})
    assert not HEADERS.keys() & Page(app_of(session)).get("session").headers.keys()


@pytest.fixture
def server(run, tmp_path):
    """A server that listens, in a thread."""
    server, ready = Server(EditorOptions(str(run.folder), tmp_path / "edits.sqlite", "val", port=0)), Event()
    server.when_ready = ready.set
    thread = Thread(target=server.run)
    thread.start()
    assert ready.wait(60)
    yield server
    server.should_exit = True
    thread.join()


def exchange(server, request):
    """Everything that the server sends for the bytes of a request, until it ends the connection."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01 GET\r\n\r\n",  # https
        b"GET / HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n",
        b"GET /" + b"x" * 70_000,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n",
    ],
    ids=["bytes", "header", "long", "length"],
)
def test_what_is_no_http_gets_the_same_headers(server, request_bytes):
    head, body = exchange(server, request_bytes).split("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400 ")
    headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:])
    assert HEADERS.items() <= headers.items()
    assert "no HTTP request" in json.loads(body)["error"]


def test_only_the_client_has_to_be_quick(server, monkeypatch):
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.3)
    facts, head = server.session.facts, f"GET /api/session HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
    monkeypatch.setattr(server.session, "facts", lambda: time.sleep(1) or facts())
    head += f"Authorization: Bearer {server.policy.token}\r\nConnection: close\r\n"
    assert exchange(server, head.encode()) == ""
    assert exchange(server, f"{head}\r\n".encode()).startswith("HTTP/1.1 200 ")


def test_what_is_written_is_private_until_it_is_shared(tmp_path):
    folder = make_images(tmp_path / "images", [(20, 20)] * 2)
    run = make_run(tmp_path, "--dataset", "folder", "--dataset_path", str(folder), *SMALL)
    store, umask = tmp_path / "edits/edits.sqlite", os.umask(0o022)

    def permissions():
        with open_page(run, store) as page:
            page.save(0)
            page.get("images/0/thumbnail")
            all_predicted(page)
        cache = run.folder / "editor_cache"
        files = [*store.parent.iterdir(), *(path for path in cache.rglob("*") if path.is_file())]
        assert {file.suffix for file in files} >= {".sqlite", ".lock", ".npz", ".jpg"}
        return {oct(file.stat().st_mode & 0o777) for file in files}, files

    try:
        modes, files = permissions()
        assert modes == {"0o600"}
        for file in files:
            file.chmod(0o660)
        (run.folder / "editor_cache/train.npz").write_bytes(b"")  # is computed and written again
        store.with_name("edits.sqlite.lock").unlink()
        assert permissions()[0] == {"0o660"}
    finally:
        os.umask(umask)


def test_who_may_frame_the_page_is_said_by_the_policy(session):
    policy = Policy(allowed_hosts("127.0.0.1", 8765), frame_ancestors="'self' http://127.0.0.1:*")
    app = app_module.create_app(session, policy)
    csp = TestClient(app, base_url=OWN).get("/").headers["content-security-policy"]
    assert csp.endswith("; frame-ancestors 'self' http://127.0.0.1:*")


# ---------------------------------------------------------------- nothing is sent that should not be


def test_unexpected_errors_go_to_the_terminal_only(page, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("/home/somebody/secret is broken")

    async def unguarded(self, scope, receive, send):
        await self.app(scope, receive, send)

    monkeypatch.setattr(page.session.queue, "page", fail)
    response = page.get("queue")
    assert response.status_code == 500
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.json() == {"error": "something went wrong in the server; its terminal says what"}
    assert "/home/somebody/secret" in capsys.readouterr().err
    assert page.get("session").status_code == 200
    monkeypatch.setattr(RequireKnownHost, "__call__", unguarded)
    page.http.app.debug = True
    page.http.app.middleware_stack = None  # built anew
    assert "/home/somebody/secret" in page.get("queue").text


def test_what_the_disk_reports_is_sent_without_its_path(page, tmp_path, monkeypatch, capsys):
    store, path = page.session.edits.store, str(page.session.edits.store.path)
    with EditStore(tmp_path / "closed.sqlite") as closed:
        pass
    monkeypatch.setattr(store, "_db", closed._db)
    response = page.save(9)
    assert response.status_code == 507
    assert "NOT SAVED" in response.json()["error"]
    assert path not in response.text
    assert path in capsys.readouterr().err
    monkeypatch.setattr(app_module, "_user_error", lambda request, error: refusal(400, str(error)))
    assert path in Page(app_of(page.session)).save(9).text


def test_names_travel_as_json_whatever_they_hold():
    hostile = ["<script>alert(1)</script>", "\u2028\u2029", "\udcff", "森", '"}', "\x00"]
    response = AsciiJson({"classes": hostile})
    assert response.body.isascii()
    assert json.loads(response.body) == {"classes": hostile}
    assert response.headers["content-type"] == "application/json"
    with pytest.raises(ValueError):
        AsciiJson({"p": float("nan")})


def test_no_request_goes_out(page, monkeypatch):
    reached = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: reached.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: reached.append(args) or [])
    for path in READ:
        assert page.get(path).status_code == 200
    assert page.post("images/0/predict", page.body()).status_code == 200
    assert page.skip(30).status_code == 200
    assert reached == []
    with suppress(OSError):
        urllib.request.urlopen("http://example.org/")
    assert reached != []  # it would have been seen


def test_it_listens_on_this_computer_only_by_default(tmp_path):
    run = make_run(tmp_path)
    for host, bound in ((None, "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("127.0.0.2", "127.0.0.2")):
        options = {"host": host} if host else {}
        server = Server(EditorOptions(str(run.folder), str(tmp_path / "edits.sqlite"), port=0, **options))
        try:
            assert server.listener.getsockname()[0] == bound
            client = TestClient(server.config.app, base_url=server.address)
            assert client.get("/").status_code == 200
            assert client.get("/api/session").status_code == 401
            known = {"Authorization": f"Bearer {server.policy.token}"}
            assert client.get("/api/session", headers=known).status_code == 200
            assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
            assert not server.config.server_header
            assert not server.config.proxy_headers
        finally:
            server.listener.close()
            server.session.close()
