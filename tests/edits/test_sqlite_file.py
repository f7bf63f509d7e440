"""Several processes write, no kill loses an acknowledged edit, and no damaged or foreign file is used."""

import multiprocessing
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from helpers.edits import an_edit, filled_store
from helpers.runs import ROOT

from sigmoid_vit.edits import writers
from sigmoid_vit.edits.sqlite_file import SCHEMA, StoreMoved
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import claim

FORK = multiprocessing.get_context("fork")  # without the seconds that importing torch takes


@pytest.fixture
def path(tmp_path):
    """The file of a store with a few revisions, closed."""
    return filled_store(tmp_path / "edits.sqlite")


# several writing processes


def save_chains(path, number, ready, go, told):
    """Eight writers of a server, each of whom saves on top of his last save; what was acknowledged."""
    with EditStore(path) as store:
        ready.release()
        go.wait()

        def writer(i):
            author, base, done = f"server {number}, writer {i}", None, []
            for fill in (i + 1) / 8 + np.arange(12) / 999:
                edit = an_edit(f"train/{author}", float(np.float32(fill)), author)
                saved = store.save(edit, base)
                store.save(an_edit("train/shared", fill, author))
                base = saved.revision
                done.append((saved.revision, saved.client_id, float(saved.value[0, 0])))
            return done

        with ThreadPoolExecutor(4) as pool:
            told.put([each for done in pool.map(writer, range(4)) for each in done])


def test_two_servers_of_four_writers_lose_nothing(tmp_path):
    path, ready, go, told = tmp_path / "edits.sqlite", FORK.Semaphore(0), FORK.Event(), FORK.Queue()
    servers = [FORK.Process(target=save_chains, args=(path, n, ready, go, told)) for n in range(2)]
    for server in servers:
        server.start()
    for _ in servers:
        assert ready.acquire(timeout=30)
    go.set()
    acknowledged = [each for _ in servers for each in told.get(timeout=60)]
    for server in servers:
        server.join(30)
    with EditStore(path, readonly=True) as store:
        history = store.history()
    found = {edit.revision: (edit.client_id, float(edit.value[0, 0])) for edit in history}
    assert len(acknowledged) == 2 * 4 * 12
    assert [found[revision] for revision, *_ in acknowledged] == [tuple(sent) for _, *sent in acknowledged]
    assert sorted(found) == list(range(1, 2 * len(acknowledged) + 1))
    shared = [edit for edit in history if edit.image_id == "train/shared"]
    assert [edit.base for edit in shared] == [None, *(edit.revision for edit in shared[:-1])]


def hold(path, ready):
    store = EditStore(path, owner="http://127.0.0.1:7777")
    store.save(an_edit())
    ready.set()
    time.sleep(60)


def test_a_killed_writer_hinders_nobody(path):
    ready = FORK.Event()
    first = FORK.Process(target=hold, args=(path, ready))
    first.start()
    assert ready.wait(20)
    with EditStore(path) as second:
        first.kill()
        first.join()
        assert second.save(an_edit()).revision == 14
        with EditStore(path) as third:
            assert third.save(an_edit(fill=0.7)).base == 14
        assert [edit.revision for edit in second.since(13)] == [14, 15]


def test_a_writer_of_another_computer_or_an_earlier_version_keeps_others_out(path, monkeypatch):
    link = path.with_name("link.sqlite")
    link.symlink_to(path)
    with EditStore(link, owner="http://127.0.0.1:7777"), monkeypatch.context() as elsewhere:
        elsewhere.setattr(writers.socket, "gethostname", lambda: "elsewhere")
        with pytest.raises(
            UserError, match=f"by http://127.0.0.1:7777 .process {os.getpid()} on "
        ) as refused:
            EditStore(path)
        assert "\n" not in str(refused.value)
        with EditStore(path, readonly=True) as reader:
            assert len(reader.history()) == 12
    monkeypatch.setattr(writers, "WAIT_SECONDS", 0.1)
    alone = claim(Path(f"{path}.lock"), "", "an editor", "")
    with pytest.raises(UserError, match=r"open for writing by an editor .*lets nobody else write"):
        EditStore(path)
    alone.close()
    EditStore(path).close()


def test_no_new_store_is_made_where_others_have_lost_theirs(path):
    with EditStore(path, owner="an editor"):
        path.rename(path.with_name("away"))
        with pytest.raises(UserError, match=r"was moved or deleted while an editor .*put it back"):
            EditStore(path)
        assert not path.exists()


def test_a_reader_takes_back_what_a_killed_writer_began(path, tmp_path):
    with EditStore(path, readonly=True) as store:
        before = store.history()
    (tmp_path / "crashed").mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA cache_size = 1")
        db.execute("BEGIN")
        db.execute("CREATE TABLE half_written AS SELECT randomblob(9000) FROM edit")
        for name in ("edits.sqlite", "edits.sqlite-journal"):
            shutil.copy(tmp_path / name, tmp_path / "crashed")
        db.execute("ROLLBACK")
    crashed = tmp_path / "crashed" / "edits.sqlite"
    assert crashed.read_bytes() != path.read_bytes()
    with EditStore(crashed, readonly=True) as store:
        assert store.history() == before
    assert crashed.read_bytes() == path.read_bytes()


# what lies beside the file


def test_every_save_is_flushed_and_a_closed_store_is_one_file(tmp_path):
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save(an_edit())
        assert [store._db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous")] == [
            "truncate",
            2,  # FULL
        ]
    assert sorted(os.listdir(tmp_path)) == ["edits.sqlite", "edits.sqlite.lock"]


@pytest.mark.parametrize("with_log", [False, True])
def test_an_open_store_of_an_earlier_version_copied_without_its_log_is_told(path, tmp_path, with_log, capsys):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN")
        db.execute("CREATE TABLE t (x)")
        db.execute("DROP TABLE t")
        db.execute("COMMIT")
        (tmp_path / "copy").mkdir()
        shutil.copy(path, tmp_path / "copy")
        if with_log:
            shutil.copy(f"{path}-wal", tmp_path / "copy")
    with EditStore(tmp_path / "copy" / path.name) as store:
        assert store.history()
    told = capsys.readouterr().err
    assert ("without edits.sqlite-wal beside it: the newest edits may be missing" in told) is not with_log
    assert capsys.readouterr().err == ""
    with EditStore(tmp_path / "copy" / path.name):  # told once: it is a plain file now
        assert capsys.readouterr().err == ""


# a file that does not stay where it is


def move(path):
    path.rename(path.with_name("away"))


def replace_by_copy(path):
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


@pytest.mark.parametrize("lose", [move, os.remove, replace_by_copy, lambda path: shutil.rmtree(path.parent)])
def test_nothing_is_called_saved_in_a_file_that_is_not_at_its_path(tmp_path, lose):
    path = filled_store(tmp_path / "folder" / "edits.sqlite")
    with EditStore(path) as store:
        lose(path)
        with pytest.raises(StoreMoved, match=rf"^{path} was moved, deleted or replaced .*put it back"):
            store.save(an_edit())
        assert len(store.history()) == 12  # what was saved before can still be exported


def test_a_save_during_which_the_file_is_moved_is_one_revision_once_it_is_back(path, monkeypatch):
    append = EditStore._append

    def append_and_move(store, *args):
        stored = append(store, *args)
        move(path)
        return stored

    with EditStore(path) as store:
        edit = an_edit(client_id="a")
        with monkeypatch.context() as patched, pytest.raises(StoreMoved):
            patched.setattr(EditStore, "_append", append_and_move)
            store.save(edit)
        path.with_name("away").rename(path)
        assert store.save(edit).revision == 13
        assert len(store.history()) == 13


# files that are refused, and stay as they are


def refused(path, readonly):
    """The message with which a file is refused; None if it is not."""
    before = path.read_bytes()
    try:
        EditStore(path, readonly=readonly).close()
    except UserError as error:
        assert path.read_bytes() == before
        assert "\n" not in str(error)
        assert str(path) in str(error)
        return str(error)
    return None


def test_no_flipped_bit_passes(path):
    whole, rng = path.read_bytes(), random.Random(0)
    with EditStore(path, readonly=True) as store:
        expected = store.history()
    caught = 0
    for position in [*range(100), *rng.choices(range(len(whole)), k=150)]:
        flipped = bytearray(whole)
        flipped[position] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        if refused(path, readonly=rng.random() < 0.8):
            caught += 1
        else:  # the bit means nothing: it lies in unused space or in a counter
            with EditStore(path, readonly=True) as store:
                assert store.history() == expected
    assert caught > 60


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.5, 0.99])
def test_a_truncated_file_is_refused(path, share, readonly):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert refused(path, readonly)


def test_a_changed_revision_is_refused(path):
    trigger = next(part for part in SCHEMA.split("CREATE TRIGGER") if part.startswith(" no_update"))
    with closing(sqlite3.connect(path)) as db:
        db.executescript("DROP TRIGGER no_update; UPDATE edit SET author = 'noor' WHERE revision = 3;")
        assert "tables were changed" in refused(path, True)
        db.executescript(f"CREATE TRIGGER{trigger}")
    assert "revision 3 differs from its checksum" in refused(path, True)


@pytest.mark.parametrize("readonly", [False, True])
def test_other_files_are_refused(path, readonly):
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 2")
    assert "schema 2, known is 1; update sigmoid_vit" in refused(path, readonly)
    path.write_bytes(b"image,value\n" * 99)
    assert "not a database" in refused(path, readonly)
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE photos (name)")
        db.execute("INSERT INTO photos VALUES ('cat.jpg')")
        db.commit()
        log = Path(f"{path}-wal").read_bytes()
        assert "belongs to another program" in refused(path, readonly)
        assert Path(f"{path}-wal").read_bytes() == log


@pytest.mark.parametrize("readonly", [False, True])
def test_paths_that_cannot_be_used_are_said(tmp_path, readonly):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "edits.sqlite"):
        with pytest.raises(UserError):
            EditStore(path, readonly=readonly)
    with pytest.raises(UserError, match="does not exist"):
        EditStore(tmp_path / "none.sqlite", readonly=True)
    assert os.listdir(tmp_path) == ["file"]


def test_a_log_without_its_store_is_kept(path):
    path.rename(path.with_name("moved"))
    Path(f"{path}-wal").write_bytes(b"the newest edits")
    with pytest.raises(UserError, match="-wal is there"):
        EditStore(path)
    assert not path.exists()
    assert Path(f"{path}-wal").read_bytes() == b"the newest edits"


@pytest.mark.slow
def test_the_script_copies_a_store_in_use(path, tmp_path):
    script = [sys.executable, str(ROOT / "src/export_edits.py"), "--edits", str(path)]
    with EditStore(path) as store:
        done = subprocess.run([*script, "--backup", str(tmp_path / "copy")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with EditStore(tmp_path / "copy", readonly=True) as copy:
            assert copy.history() == store.history()
    wrong = subprocess.run(script, capture_output=True, text=True)
    assert wrong.returncode == 1
    assert wrong.stderr == "error: give either --out DIR or --backup FILE\n"
