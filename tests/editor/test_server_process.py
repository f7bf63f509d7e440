"""The server as a process of its own, behind a proxy, and in a notebook."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from helpers.editing import (
    BINARY,
    Page,
    app_of,
    wait_for,
)

from sigmoid_vit import UserError
from sigmoid_vit.editor import EditorOptions, show
from sigmoid_vit.editor import server as server_module
from sigmoid_vit.editor.ports import PORTS, listen, usual_port
from sigmoid_vit.editor.server import Server
from sigmoid_vit.edits.store import EditStore

SCRIPT = Path(__file__).parents[2] / "src/edit_attention.py"
SECONDS = 4  # that a request may take in the program below
FEW_FILES = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
sys.path.insert(0, {str(SCRIPT.parent)!r})
from sigmoid_vit.editor import connection
connection.REQUEST_SECONDS = {SECONDS}
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""


class Process:
    """src/edit_attention.py on a run, on an interpreter without IPython."""

    def __init__(self, run, edits, tmp_path, *args, program=(str(SCRIPT),), **env):
        (tmp_path / "IPython.py").write_text("raise ImportError('there is no IPython here')")
        command = [sys.executable, *program, "--run", str(run.folder), "--edits", str(edits), *args]
        command += ["--split", "val", *([] if "BROWSER" in env else ["--no_browser"])]
        env = os.environ | {"PYTHONPATH": str(tmp_path)} | env
        self.errors = tmp_path / "stderr"
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.errors.open("w"), text=True, env=env
        )
        self.line = self.process.stdout.readline()
        found = re.fullmatch(r"Editor: (http://127\.0\.0\.1:(\d+))/#token=([\w-]+)\n", self.line)
        assert found, self.line + self.errors.read_text()
        self.address, self.port, self.token = found.groups()

    def __call__(self, path, body=None, **headers):
        headers = {"Authorization": f"Bearer {self.token}", **headers}
        if body is not None:
            headers |= {"Origin": self.address, "Content-Type": BINARY}
        request = urllib.request.Request(f"{self.address}/api/{path}", body, headers)
        with urllib.request.urlopen(request) as response:
            return json.loads(response.read())

    def end(self, how):
        self.process.send_signal(how)
        rest = self.process.stdout.read()
        return self.process.wait(60), rest


@pytest.fixture
def start():
    """Starts `Process`es, none of which outlives the test."""
    started = []

    def start(*args, **options):
        started.append(Process(*args, **options))
        return started[-1]

    yield start
    for editor in started:
        editor.process.kill()


def test_an_acknowledged_save_survives_a_kill(run, tmp_path, start):
    edits = tmp_path / "edits.sqlite"
    editor = start(run, edits, tmp_path, "--port", "0", "--author", "mika")
    assert len(editor("queue?order=name")["items"]) == 100  # it responses as soon as it says so
    body = np.zeros(36, "<f4").tobytes() + b"\1" * 36
    saved = editor("images/5/edit?base=none&client_id=0123456789abcdef", body)
    note = urllib.parse.quote("森" * 2000)  # the longest line a page sends
    longest = editor(f"images/6/edit?base=none&client_id=0123456789abcdee&note={note}", body)
    assert longest["revision"] == saved["revision"] + 1
    with pytest.raises(UserError, match=rf"port {editor.port} of 127.0.0.1 cannot be used.*--port"):
        Server(EditorOptions(str(run.folder), str(tmp_path / "other.sqlite"), port=int(editor.port)))
    assert not (tmp_path / "other.sqlite").exists()
    editor.end(signal.SIGKILL)

    again = start(run, edits, tmp_path, "--port", editor.port)
    assert again.port == editor.port
    assert again.token != editor.token
    (revision,) = again("images/5/history")["revisions"]
    assert (revision["revision"], revision["created"]) == (saved["revision"], saved["created"])
    with pytest.raises(urllib.error.HTTPError, match="401"):
        again("session", Authorization=f"Bearer {editor.token}")
    repeated = again("images/5/edit?base=none&client_id=0123456789abcdef&author=mika", body)
    assert repeated["revision"] == saved["revision"]  # the page sends what was not acknowledged once more
    code, rest = again.end(signal.SIGINT)
    assert code == 0
    assert f"ssh -L {again.port}:127.0.0.1:{again.port} " in rest
    assert str(edits) in rest
    assert again.errors.read_text() == ""
    assert not edits.with_name("edits.sqlite-wal").exists()  # one plain file again


def is_closed(connection, seconds):
    """Whether the server ends a connection within so many seconds."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.slow
def test_half_requests_lock_nobody_out(run, tmp_path, start):
    editor = start(run, tmp_path / "edits.sqlite", tmp_path, "--port", "0", program=("-c", FEW_FILES))
    token = f"Host: 127.0.0.1:{editor.port}\r\nAuthorization: Bearer {editor.token}\r\n"
    own = f"Origin: {editor.address}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    no_body = f"POST /api/images/0/skip?base=none&client_id=0123456789abcdef HTTP/1.1\r\n{token}{own}"
    heads = [b"", b"GET /api/ses", b"GET / HTTP/1.1\r\nHost: 127", no_body.encode()]
    with ExitStack() as stack:
        held = []
        for i in range(400):
            held.append(stack.enter_context(socket.create_connection(("127.0.0.1", int(editor.port)), 60)))
            held[-1].sendall(heads[i % len(heads)])
        before = time.monotonic()
        assert editor("session")["images"] == 130
        assert time.monotonic() - before < SECONDS  # it did not wait for them to be closed
        end = time.monotonic() + SECONDS + 2
        assert all(is_closed(connection, max(0.01, end - time.monotonic())) for connection in held)
    assert editor("session")["images"] == 130
    assert editor.errors.read_text() == ""


@pytest.mark.slow
def test_the_browser_gets_a_private_file_in_place_of_the_token(run, tmp_path, start):
    told, browser = tmp_path / "told", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$@" > {told}.new; mv {told}.new {told}\n')
    browser.chmod(0o700)
    env = {"BROWSER": str(browser), "DISPLAY": ":0", "SSH_CONNECTION": "", "TMPDIR": str(tmp_path)}
    editor = start(run, tmp_path / "edits.sqlite", tmp_path, "--port", "0", **env)
    wait_for(told.exists)
    address = told.read_text().strip()
    assert editor.token not in address
    file = Path(urllib.parse.unquote(urllib.parse.urlsplit(address).path))
    assert f"url={editor.address}/#token={editor.token}" in file.read_text()
    assert [path.stat().st_mode & 0o777 for path in (file, file.parent)] == [0o600, 0o700]
    editor.end(signal.SIGTERM)
    assert not file.parent.exists()


def test_bad_options_are_sentences(run, tmp_path):
    for options, sentence in (
        (dict(run=str(tmp_path)), "is not a run"),
        (dict(split="holdout"), "no part 'holdout'.*test_train_like"),
        (dict(port=70000), "--port is 70000"),
        (dict(author="propagated"), "--author"),
        (dict(root_path="/a{b}"), "--root_path"),
        (dict(allow_host=["http://example.org"]), "--allow_host"),
        (dict(masks=str(tmp_path / "none")), "there is no folder"),
        (dict(host="no.such.host.invalid"), "cannot be used"),
        (dict(edits=str(tmp_path)), "check the path"),
    ):
        good = {"run": str(run.folder), "edits": str(tmp_path / "edits.sqlite"), "port": 0}
        with pytest.raises(UserError, match=sentence):
            Server(EditorOptions(**good | options))


def test_a_store_has_a_port_of_its_own(run, tmp_path, monkeypatch):
    def start(name, **options):
        server = Server(EditorOptions(str(run.folder), str(tmp_path / name), **options))
        server.listener.close()
        server.session.close()
        return server

    monkeypatch.chdir(tmp_path)
    first, other = start("edits.sqlite"), start("other.sqlite")
    assert first.port != other.port
    again = Server(EditorOptions(str(run.folder), "edits.sqlite"))  # the same, spelled another way
    assert again.port == first.port == usual_port(tmp_path / "edits.sqlite")
    assert again.notice is None
    again.session.close()
    with again.listener:  # as another program would hold it
        next_one = start("edits.sqlite")
        assert next_one.port == PORTS[(first.port - PORTS.start + 1) % len(PORTS)]
        assert f"has port {first.port}, the usual one of this store's editor" in next_one.notice
        assert start("edits.sqlite", port=0).notice is None  # was chosen


def test_responses_are_sent_at_once():
    """Head and body of an response are two writes; without this the second waits 40 ms for the browser."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_behind_a_path_prefix(page):
    prefixed = Page(app_of(page.session, root_path="/some/prefix/"))  # not started: the session runs already
    added = prefixed.http.get("/some/prefix")
    assert (added.status_code, added.headers["location"]) == (307, "prefix/")
    for path in ("/api/session", "/some/prefix/api/session"):
        assert prefixed.http.get(path).status_code == 200
        assert prefixed.http.get(path, headers={"Authorization": ""}).status_code == 401
    index = page.http.get("/")
    assert index.status_code == 200
    assert prefixed.http.get("/some/prefix/").content == index.content
    assert not re.search(r"""(src|href)=["']?(/|https?:)""", index.text)  # relative addresses only


def test_show_gives_a_frame_and_starts_anew(run, tmp_path, capsys):
    def fetch(frame, path):
        address, token = frame.src.split("#token=")
        request = urllib.request.Request(address + path, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request) as response:
            return response.headers["content-security-policy"], response.read()

    first = show(str(run.folder), edits=tmp_path / "edits.sqlite", split="val")
    assert capsys.readouterr().out == ""
    csp, body = fetch(first, "api/session")
    assert json.loads(body)["images"] == 130
    assert 'height="900"' in first._repr_html_()
    assert "frame-ancestors 'self' http://127.0.0.1:* http://localhost:*" in csp
    second = show(str(run.folder), edits=tmp_path / "edits.sqlite", split="val", address="/proxy/{port}/")
    port = re.fullmatch(r"/proxy/(\d+)/#token=[\w-]{43}", second.src)[1]
    assert port == str(urllib.parse.urlsplit(first.src).port)  # where the browser keeps what is not saved
    with pytest.raises(urllib.error.HTTPError):
        fetch(first, "api/session")  # the store has one editor, with another token
    second.src = second.src.replace(f"/proxy/{port}/", f"http://127.0.0.1:{port}/")
    assert fetch(second, "api/session")[1] == body
    ((server, thread),) = server_module._shown.values()
    server.should_exit = True
    thread.join()
    with EditStore(tmp_path / "edits.sqlite"):
        pass  # free again
