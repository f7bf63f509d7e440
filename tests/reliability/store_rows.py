"""The store of edits while its editor is killed and while it is copied."""

import http.client
import json
import os
import re
import secrets
import shutil
import signal
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import numpy as np
from helpers.edits import an_edit

from sigmoid_vit.edits import sqlite_file, store
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.errors import UserError

from . import material
from .harness import Child, Row, script, wait_for

CLIENTS = 8


class EditorKilled(Row):
    promise = "the editor killed while 8 clients save: an edit that it had acknowledged is lost or changed"
    control = "the store commits every 32nd save only"
    tries = (20, 500)
    controls = (3, 20)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.run = material.a_run(folder, material.images(folder / "images"))

    @contextmanager
    def without(self):
        saves = 0

        @contextmanager
        def seldom(self):
            nonlocal saves
            with self._lock:
                if not self._db.in_transaction:
                    self._db.execute("BEGIN IMMEDIATE")
                yield
                saves += 1
                if saves % 32 == 0:
                    self._db.execute("COMMIT")

        with patch.object(EditStore, "_transaction", seldom):
            yield

    def attempt(self, number, folder, random, protected):
        edits = folder / "edits.sqlite"
        more = ("--run", self.run.folder, "--edits", edits, "--split", "train", "--port", 0, "--no_browser")
        with Child(folder / "log", script, "edit_attention", *more) as editor:
            if not wait_for(lambda: "#token=" in editor.said or editor.ended(0) is not None):
                return "the editor did not start"
            port, token = re.search(r"127\.0\.0\.1:(\d+)/#token=([\w-]+)", editor.said).groups()
            acknowledged, threads = [], []
            for k in range(CLIENTS):
                thread = threading.Thread(target=_save_on, args=(int(port), token, k, acknowledged))
                thread.start()
                threads.append(thread)
            if not wait_for(lambda: len(acknowledged) >= CLIENTS):
                return f"nothing is acknowledged: {editor.said[-300:]}"
            time.sleep(random.uniform(0, 0.4))
            editor.send(signal.SIGKILL)
            editor.ended()
            for thread in threads:
                thread.join()
        with EditStore(edits, readonly=True) as kept:
            found = {edit.revision: (edit.client_id, float(edit.value[0, 0])) for edit in kept.history()}
        lost = [revision for revision, *sent in acknowledged if found.get(revision) != tuple(sent)]
        return f"{len(lost)} of {len(acknowledged)} acknowledged edits are lost" if lost else ""


def _save_on(port: int, token: str, client: int, acknowledged: list) -> None:
    """Save edits of one image, each on top of the one before, until the server is gone."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
    headers["Origin"] = f"http://127.0.0.1:{port}"
    cells, base = (material.SIZE // material.PATCH) ** 2, "none"
    with suppress(OSError, http.client.HTTPException, ValueError):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            value, client_id = float(np.float32(secrets.randbelow(1000) / 1000)), secrets.token_hex(8)
            body = np.full(cells, value, "<f4").tobytes() + b"\1" * cells
            path = f"/api/images/{client}/edit?base={base}&client_id={client_id}&author=mika"
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            said = json.loads(response.read())
            if response.status != 200:
                return
            base = said["revision"]
            acknowledged.append((base, client_id, value))


class CopiedInUse(Row):
    promise = (
        "a plain copy, or export_edits.py --backup, of a store that is being written: an edit that was saved "
        "before is missing, and opening the copy does not say so"
    )
    control = "a write-ahead log, whose absence beside the copy is not noticed"
    tries = (20, 200)
    controls = (6, 20)

    @contextmanager
    def without(self):
        def with_log(path, readonly):
            db = sqlite_file.open_database(path, readonly)
            if not readonly:
                db.execute("PRAGMA journal_mode = WAL")
            return db

        with ExitStack() as stack:
            stack.enter_context(patch.object(store, "open_database", with_log))
            stack.enter_context(patch.object(sqlite_file, "_tell_of_missing_log", lambda *_: None))
            yield

    def attempt(self, number, folder, random, protected):
        edits, copy = folder / "edits.sqlite", folder / "copy.sqlite"
        source, sink = os.pipe()
        with Child(folder / "log", _save_until_killed, edits, sink) as writer, open(source, "rb", 0) as pipe:
            os.close(sink)
            saved = _revision(pipe.read(8), 0)
            time.sleep(random.uniform(0, 0.2))
            os.set_blocking(source, False)
            saved = _revision(pipe.read() or b"", saved)
            told = ""
            try:
                if number % 2 and protected:
                    script("export_edits", "--edits", edits, "--backup", copy)
                else:
                    shutil.copy(edits, copy)
                with EditStore(copy, readonly=True) as kept:
                    there = [edit.revision for edit in kept.history()]
            except (UserError, SystemExit) as error:
                told = str(error)
            finally:
                writer.send(signal.SIGKILL)
        if told:
            return "" if "damaged" in told or "error" in told else f"the copy is refused with {told}"
        missing = set(range(1, saved + 1)) - set(there)
        return f"{len(missing)} of {saved} saved edits are not in the copy" if missing else ""


def _save_until_killed(path: Path, pipe: int) -> None:
    with EditStore(path) as edits:
        for i in range(1_000_000):
            saved = edits.save(an_edit(f"train/{i % 5}", fill=(i % 1000) / 1000, note="x" * (i % 7 * 900)))
            os.write(pipe, saved.revision.to_bytes(8))


def _revision(words: bytes, before: int) -> int:
    """The last revision of those that came through the pipe, 8 bytes each."""
    return int.from_bytes(words[-8:]) if words else before
