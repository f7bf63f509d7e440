"""No acknowledged edit is lost, none is overwritten in silence, and no damaged or foreign file is used."""

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.edits import edits
from hypothesis import HealthCheck, given, settings

from sigmoid_vit.edits.sqlite_file import SCHEMA, journal_mode
from sigmoid_vit.edits.store import Conflict, EditStore, StoredEdit
from sigmoid_vit.errors import UserError
from sigmoid_vit.model.edit import AttentionEdit

FORK = multiprocessing.get_context("fork")  # without the seconds that importing torch takes
NFS = "server:/home / nfs4 rw 0 0\n"


def an_edit(image_id="train/1", fill=0.5, author="mika", **changes):
    value = np.full((3, 2), fill, np.float32)
    return StoredEdit(image_id, "0" * 64, value, value > 0, author, **changes)


def unstored(edit):
    """The edit as it was before the store set its fields."""
    return replace(edit, revision=None, base=None, created=None, client_id=None)


@pytest.fixture
def store(tmp_path):
    with EditStore(tmp_path / "edits.sqlite") as store:
        yield store


@pytest.fixture
def path(tmp_path):
    """The file of a store with a few revisions, closed."""
    path = tmp_path / "edits.sqlite"
    with EditStore(path) as store:
        for i in range(12):
            store.save(an_edit(f"train/{i % 4}", i / 20))
    return path


@pytest.fixture
def on_nfs(tmp_path, monkeypatch):
    (tmp_path / "mounts").write_text(NFS)
    monkeypatch.setattr("sigmoid_vit.store_file.MOUNTS", tmp_path / "mounts")


# what is saved is what is read


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edit=edits())
def test_what_is_saved_is_read_back(store, edit):
    saved = store.save(edit)
    assert unstored(saved) == edit
    assert store.current(edit.image_id) == saved == store.history(edit.image_id)[-1]
    assert saved.value.dtype == np.float32
    assert saved.created.endswith("+00:00")


def test_revisions_survive_reopening(path):
    with EditStore(path, readonly=True) as store:
        before = store.history()
    with EditStore(path) as store:
        assert store.history() == before
        assert [edit.revision for edit in before] == list(range(1, 13))
        assert store.save(an_edit()).revision == 13


def test_an_edit_becomes_the_networks_edit():
    edit = an_edit(fill=0.25, layers=[0, -1], heads=[1], queries="cls").attention_edit()
    assert isinstance(edit, AttentionEdit)
    assert edit.value.tolist() == [[[0.25] * 2] * 3] and edit.edited.dtype == torch.bool
    assert (edit.layers, edit.heads, edit.queries) == ([0, -1], [1], "cls")


def test_the_current_edit_is_the_newest_revision(store):
    first, second = store.save(an_edit()), store.save(an_edit(fill=0.7, author="noor"))
    other = store.save(an_edit("train/0", author="propagated", confidence=0.9))
    assert (first.base, second.base, other.base) == (None, first.revision, None)
    assert store.current("train/1") == second
    assert store.history("train/1") == [first, second]
    assert store.current_all() == {"train/0": other, "train/1": second}
    assert store.current_all(author="propagated") == {"train/0": other}
    assert store.current("train/2") is None and store.history("train/2") == []


def test_delete_restore_and_undo_are_revisions(store):
    first, second = store.save(an_edit()), store.save(an_edit(fill=0.7))
    deleted = store.delete("train/1", "noor", base=second.revision)
    assert deleted.deleted and (deleted.base, deleted.author) == (second.revision, "noor")
    assert store.current("train/1") is None and store.current_all() == {}
    with pytest.raises(UserError, match="no edit to delete"):
        store.delete("train/1", "noor")
    undone = store.restore("train/1", deleted.base, "mika")
    assert (undone.value == second.value).all() and not undone.deleted
    assert (store.restore("train/1", first.revision, "mika").value == first.value).all()
    assert store.restore("train/1", deleted.revision, "mika").deleted
    assert len(store.history("train/1")) == 6
    with pytest.raises(UserError, match="train/2 has no revision 1"):
        store.restore("train/2", first.revision, "mika")


def test_a_restored_prediction_is_the_persons_own(store):
    predicted = store.save(an_edit(author="propagated", confidence=0.9))
    assert store.restore("train/1", predicted.revision, "mika").confidence is None
    assert store.restore("train/1", predicted.revision, "propagated").confidence == 0.9


# two people, one save twice


def test_conflict_shows_both_and_stores_nothing(store):
    first = store.save(an_edit(), base=None)
    theirs = store.save(an_edit(fill=0.7, author="noor"), base=first.revision)
    mine = an_edit(fill=0.1)
    for base in (first.revision, None, 99):
        with pytest.raises(Conflict, match="revision 2 by noor") as conflict:
            store.save(mine, base=base)
        assert conflict.value.theirs == theirs and unstored(conflict.value.mine) == mine
    for change in (store.delete, lambda *args, **kwargs: store.restore("train/1", 1, "mika", **kwargs)):
        with pytest.raises(Conflict):
            change("train/1", "mika", base=first.revision)
    with pytest.raises(Conflict, match="none"):
        store.save(an_edit("train/2"), base=1)
    assert store.history() == [first, theirs]
    store.delete("train/1", "noor")
    assert store.save(mine, base=None).base == 3


def test_the_same_client_id_is_one_save(store):
    edit = an_edit(client_id="tab 1, save 1")
    first = store.save(edit, base=None)
    store.save(an_edit(fill=0.7), base=first.revision)
    assert store.save(edit, base=None) == first == store.save_many([edit])[0]
    deleted = store.delete("train/1", "mika", client_id="d")
    assert store.delete("train/1", "mika", client_id="d") == deleted
    restored = store.restore("train/1", 1, "mika", client_id="r")
    assert store.restore("train/1", 1, "mika", client_id="r") == restored
    for other in (replace(edit, note="not the same"), replace(edit, image_id="train/2")):
        with pytest.raises(UserError, match="make one per save"):
            store.save(other)
    assert len(store.history()) == 4


def test_threads_save_at_once(store):
    def person(number):
        return [store.save(an_edit(f"train/{i % 3}", author=str(number))) for i in range(25)]

    with ThreadPoolExecutor(8) as people:
        saved = [edit for edits in people.map(person, range(8)) for edit in edits]
    assert sorted(edit.revision for edit in saved) == list(range(1, 201))
    assert sorted(saved, key=lambda edit: edit.revision) == store.history()


def test_one_base_is_won_by_one_thread(store):
    base = store.save(an_edit()).revision
    barrier = threading.Barrier(8)

    def person(number):
        barrier.wait()
        try:
            return store.save(an_edit(author=str(number)), base=base)
        except Conflict as conflict:
            return conflict

    with ThreadPoolExecutor(8) as people:
        results = list(people.map(person, range(8)))
    won = [result for result in results if isinstance(result, StoredEdit)]
    assert len(won) == 1 and store.history() == [store.history()[0], *won]
    assert all(result.theirs == won[0] for result in results if isinstance(result, Conflict))


# what is not stored


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"value": np.full((3, 2), np.nan, np.float32)}, r"must lie in \[0, 1\]"),
        ({"value": np.full((3, 2), 1.5, np.float32)}, r"value 1.5"),
        ({"value": np.full((3, 2), 1, np.int64)}, "array of floats"),
        ({"value": [[0.5] * 2] * 3}, "array of floats"),
        ({"value": np.full(6, 0.5, np.float32)}, r"shape \[6\]"),
        ({"value": np.zeros((0, 2), np.float32), "edited": np.zeros((0, 2), bool)}, r"shape \[0, 2\]"),
        ({"edited": np.ones((2, 3), bool)}, "mask is"),
        ({"edited": np.ones((3, 2), np.uint8)}, "bool tensor"),
        ({"layers": "first"}, "layers must be"),
        ({"layers": [0.5]}, "layers must be"),
        ({"heads": "all"}, "heads must be"),
        ({"queries": "last"}, "unknown queries"),
        ({"author": ""}, "needs an image id and an author"),
        ({"author": None}, "author must be a text"),
        ({"image_id": ""}, "needs an image id"),
        ({"note": 7}, "note must be a text"),
        ({"note": "\ud800"}, "cannot hold such a text"),
        ({"confidence": 0.5}, "'propagated' edit"),
        ({"confidence": "high", "author": "propagated"}, "confidence 'high'"),
        ({"confidence": 1.5, "author": "propagated"}, "confidence 1.5"),
    ],
)
def test_a_wrong_edit_is_refused(store, changes, message):
    with pytest.raises(UserError, match=message):
        store.save_many([an_edit("train/2"), replace(an_edit(), **changes)])
    assert store.history() == []


def test_other_number_types_are_made_plain(store):
    edit = replace(an_edit(), value=np.full((3, 2), 0.5, ">f8"), layers=-1, heads=(np.int64(2),))
    assert unstored(store.save(edit)) == replace(an_edit(), layers=[-1], heads=[2])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE edit SET note = 'x'",
        "DELETE FROM edit",
        "REPLACE INTO edit SELECT * FROM edit WHERE revision = 1",
        "INSERT INTO edit SELECT * FROM edit WHERE revision = 1 ON CONFLICT DO UPDATE SET note = 'x'",
    ],
)
def test_nothing_can_be_changed_or_removed(path, statement):
    with closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.IntegrityError, match="a revision"):
        db.execute(statement)


def test_a_readonly_store_reads_while_another_writes(store):
    store.save(an_edit())
    with EditStore(store.path, readonly=True) as reader:
        assert reader.history() == store.history()
        store.save(an_edit(fill=0.7))
        assert reader.history() == store.history()
        with pytest.raises(UserError, match="reading only"):
            reader.save(an_edit())


def test_a_full_disk_is_said_and_nothing_is_stored(store):
    store._db.execute("PRAGMA max_page_count = 40")
    with pytest.raises(UserError, match="full"):
        store.save_many(replace(an_edit(), note="x" * 9999) for _ in range(40))
    assert store.history() == []
    assert store.save(an_edit()).revision == 1


def test_a_closed_store_says_so(path):
    store = EditStore(path)
    store.close()
    store.close()
    with pytest.raises(UserError, match="closed"):
        store.current("train/1")


# one writing process


def hold(path, ready):
    store = EditStore(path, owner="http://127.0.0.1:7777")
    store.save(an_edit())
    ready.set()
    time.sleep(60)


def test_a_second_writer_is_told_the_owner_of_the_first(path):
    with EditStore(path), pytest.raises(UserError, match="open for writing by another process"):
        EditStore(path)
    link = path.with_name("link.sqlite")
    link.symlink_to(path)
    ready = FORK.Event()
    first = FORK.Process(target=hold, args=(link, ready))
    first.start()
    assert ready.wait(20)
    with pytest.raises(UserError, match=f"by http://127.0.0.1:7777 .process {first.pid} on ") as refused:
        EditStore(path)
    assert "\n" not in str(refused.value)
    with EditStore(path, readonly=True) as reader:
        assert len(reader.history()) == 13
    first.kill()
    first.join()
    with EditStore(path) as store:
        assert len(store.history()) == 13


def save_until_killed(path, pipe):
    with EditStore(path) as store:
        store._db.execute("PRAGMA wal_autocheckpoint = 30")  # so that kills meet checkpoints, too
        for i in range(1_000_000):
            saved = store.save(an_edit(f"train/{i % 5}", fill=random.random(), note="x" * (i % 7 * 900)))
            os.write(pipe, saved.revision.to_bytes(4) + saved.value[0, 0].tobytes())


def acknowledged_until_a_kill(path, saves, seconds):
    """What a process that saves in a loop had acknowledged when it was killed: revision -> value.

    The kill comes so many seconds after so many saves, or after the start.
    """
    source, sink = os.pipe()
    process = FORK.Process(target=save_until_killed, args=(path, sink))
    process.start()
    os.close(sink)
    with open(source, "rb") as file:
        data = file.read(8 * saves)
        time.sleep(seconds)
        process.kill()
        process.join()
        data += file.read()
    assert process.exitcode == -signal.SIGKILL and len(data) % 8 == 0
    words = [data[i : i + 8] for i in range(0, len(data), 8)]
    return {int.from_bytes(word[:4]): np.frombuffer(word[4:], np.float32)[0] for word in words}


@pytest.mark.parametrize("file_system", ["local", "network"])
def test_no_kill_loses_an_acknowledged_save(tmp_path, file_system, request):
    if file_system == "network":
        request.getfixturevalue("on_nfs")
    path, acknowledged, rng = tmp_path / "edits.sqlite", {}, random.Random(file_system)
    for kill in range(24):
        saves, seconds = (
            (0, rng.uniform(0, 0.08)) if kill % 4 == 0 else (rng.randrange(1, 9), rng.expovariate(500))
        )
        acknowledged |= acknowledged_until_a_kill(path, saves, seconds)
        if not path.exists():  # killed before the file was made
            continue
        with EditStore(path, readonly=kill % 2 == 0) as store:
            found = {edit.revision: edit.value[0, 0] for edit in store.history()}
        assert acknowledged.items() <= found.items()
        assert list(found) == list(range(1, len(found) + 1))
    assert len(acknowledged) > 24


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


# where the file lies


@pytest.mark.parametrize(
    "path, mode",
    [
        ("/home/mika/edits.sqlite", "WAL"),
        ("/home/mika/far/edits.sqlite", "TRUNCATE"),
        ("/home/mika/farther/edits.sqlite", "WAL"),
        ("/mnt/two words/edits.sqlite", "TRUNCATE"),
        ("/mnt/over/edits.sqlite", "TRUNCATE"),
        ("/mnt/unknown/edits.sqlite", "TRUNCATE"),
        ("/scratch/edits.sqlite", "TRUNCATE"),
    ],
)
def test_the_journal_suits_the_file_system(path, mode):
    mounts = r"""rootfs / overlay rw 0 0
/dev/sda2 /home ext4 rw 0 0
server:/export /home/mika/far nfs4 rw 0 0
//server/share /mnt/two\040words cifs rw 0 0
/dev/sdb1 /mnt/over xfs rw 0 0
host /mnt/over fuse.sshfs rw 0 0
x /mnt/unknown newfs rw 0 0
lustre@tcp:/s /scratch lustre rw 0 0
"""
    assert journal_mode(Path(path), mounts) == mode
    assert journal_mode(Path(path), "") == "TRUNCATE"


@pytest.mark.parametrize("mounts, mode", [(NFS, "truncate"), ("/dev/sda1 / ext4 rw 0 0\n", "wal")])
def test_every_save_is_flushed_and_a_closed_store_is_one_file(tmp_path, monkeypatch, mounts, mode):
    (tmp_path / "mounts").write_text(mounts)
    monkeypatch.setattr("sigmoid_vit.store_file.MOUNTS", tmp_path / "mounts")
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save(an_edit())
        assert [store._db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous")] == [
            mode,
            2,  # FULL
        ]
        assert len(os.listdir(tmp_path)) > 3
    assert sorted(os.listdir(tmp_path)) == ["edits.sqlite", "edits.sqlite.lock", "mounts"]


# files that are refused, and stay as they are


def refused(path, readonly):
    """The message with which a file is refused; None if it is not."""
    before = path.read_bytes()
    try:
        EditStore(path, readonly=readonly).close()
    except UserError as error:
        assert path.read_bytes() == before
        assert "\n" not in str(error) and str(path) in str(error)
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
    assert not path.exists() and Path(f"{path}-wal").read_bytes() == b"the newest edits"


# copies


def test_a_backup_of_a_store_in_use_is_whole(store, tmp_path):
    done = threading.Event()

    def keep_saving():
        while not done.is_set():
            store.save(an_edit())

    copies = [tmp_path / f"backup {i}.sqlite" for i in range(5)]
    with ThreadPoolExecutor() as pool:
        saving = pool.submit(keep_saving)
        for copy in copies:
            store.backup(copy)
        done.set()
        saving.result()
    with EditStore(store.path, readonly=True) as reader:
        reader.backup(tmp_path / "from a reader.sqlite")
    for copy in [*copies, tmp_path / "from a reader.sqlite"]:
        with EditStore(copy, readonly=True) as backup:
            assert backup.history() == store.history()[: len(backup.history())]


def test_a_backup_overwrites_nothing(store, tmp_path):
    store.backup(tmp_path / "backup.sqlite")
    with pytest.raises(UserError, match="never overwritten"):
        store.backup(tmp_path / "backup.sqlite")
    with pytest.raises(UserError, match="cannot write"):
        store.backup(tmp_path / "backup.sqlite" / "copy")
