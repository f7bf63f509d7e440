"""The server as a process of its own, behind a proxy, and in a notebook."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from helpers.editing import (
    BINARY,
    Page,
    app_of,
)

from sigmoid_vit import UserError
from sigmoid_vit.editor import EditorOptions, show
from sigmoid_vit.editor import server as server_module
from sigmoid_vit.editor.server import Server, _listen
from sigmoid_vit.edits.store import EditStore

ROOT = Path(__file__).parents[2]


class Process:
    """src/edit_attention.py on a run, on an interpreter without IPython."""

    def __init__(self, run, edits, tmp_path, *args):
        (tmp_path / "IPython.py").write_text("raise ImportError('there is no IPython here')")
        command = [sys.executable, str(ROOT / "src/edit_attention.py"), "--run", str(run.folder)]
        command += ["--edits", str(edits), "--split", "val", "--no_browser", *args]
        env = os.environ | {"PYTHONPATH": str(tmp_path)}
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

    def start(*args):
        started.append(Process(*args))
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
    address = re.escape(editor.address)
    with pytest.raises(UserError, match=rf"already open for writing by the editor at {address}/"):
        Server(EditorOptions(str(run.folder), str(edits), port=0))
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


def test_responses_are_sent_at_once():
    """Head and body of an response are two writes; without this the second waits 40 ms for the browser."""
    with _listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
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


def test_show_gives_a_frame_and_starts_anew(run, tmp_path):
    def fetch(frame, path):
        address, token = frame.src.split("#token=")
        request = urllib.request.Request(address + path, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request) as response:
            return response.headers["content-security-policy"], response.read()

    first = show(str(run.folder), edits=tmp_path / "edits.sqlite", split="val")
    csp, body = fetch(first, "api/session")
    assert json.loads(body)["images"] == 130
    assert 'height="900"' in first._repr_html_()
    assert "frame-ancestors 'self' http://127.0.0.1:* http://localhost:*" in csp
    second = show(str(run.folder), edits=tmp_path / "edits.sqlite", split="val", address="/proxy/{port}/")
    port = re.fullmatch(r"/proxy/(\d+)/#token=[\w-]{43}", second.src)[1]
    with pytest.raises(urllib.error.URLError):
        fetch(first, "api/session")  # the store has one editor
    second.src = second.src.replace(f"/proxy/{port}/", f"http://127.0.0.1:{port}/")
    assert fetch(second, "api/session")[1] == body
    ((server, thread),) = server_module._shown.values()
    server.should_exit = True
    thread.join()
    with EditStore(tmp_path / "edits.sqlite"):
        pass  # free again
