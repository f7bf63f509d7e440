"""No acknowledged edit is overwritten in silence, and what is saved is what is read."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.edits import an_edit, edits, filled_store
from hypothesis import HealthCheck, given, settings

from sigmoid_vit.edits.store import Conflict, EditStore, StoredEdit
from sigmoid_vit.errors import UserError
from sigmoid_vit.model.edit import AttentionEdit


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
    return filled_store(tmp_path / "edits.sqlite")


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
    assert edit.value.tolist() == [[[0.25] * 2] * 3]
    assert edit.edited.dtype == torch.bool
    assert (edit.layers, edit.heads, edit.queries) == ([0, -1], [1], "cls")


def test_on_a_grid_values_per_head_become_the_mean_of_the_edited():
    value = np.float32([[[0.2, 0.4]], [[0.6, 0.8]]])  # two heads, 1 x 2 cells
    edit = replace(an_edit(), value=value, edited=np.array([[[True, True]], [[True, False]]]))
    value, edited = edit.on_grid((1, 2))
    assert value.tolist() == [[pytest.approx(0.4), pytest.approx(0.4)]]
    assert edited.tolist() == [[True, True]]
    value, edited = edit.on_grid((2, 4))
    assert edited.all()
    assert value.shape == (2, 4)


def test_the_current_edit_is_the_newest_revision(store):
    first, second = store.save(an_edit()), store.save(an_edit(fill=0.7, author="noor"))
    other = store.save(an_edit("train/0", author="propagated", confidence=0.9))
    assert (first.base, second.base, other.base) == (None, first.revision, None)
    assert store.current("train/1") == second
    assert store.history("train/1") == [first, second]
    assert store.current_all() == {"train/0": other, "train/1": second}
    assert store.current_all(author="propagated") == {"train/0": other}
    assert store.current("train/2") is None
    assert store.history("train/2") == []


def test_delete_restore_and_undo_are_revisions(store):
    first, second = store.save(an_edit()), store.save(an_edit(fill=0.7))
    deleted = store.delete("train/1", "noor", base=second.revision)
    assert deleted.deleted
    assert (deleted.base, deleted.author) == (second.revision, "noor")
    assert store.current("train/1") is None
    assert store.current_all() == {}
    with pytest.raises(UserError, match="no edit to delete"):
        store.delete("train/1", "noor")
    undone = store.restore("train/1", deleted.base, "mika")
    assert (undone.value == second.value).all()
    assert not undone.deleted
    assert (store.restore("train/1", first.revision, "mika").value == first.value).all()
    assert store.restore("train/1", deleted.revision, "mika").deleted
    assert len(store.history("train/1")) == 6
    with pytest.raises(UserError, match="train/2 has no revision 1"):
        store.restore("train/2", first.revision, "mika")


def test_a_restored_propagated_edit_is_the_persons(store):
    propagated = store.save(an_edit(author="propagated", confidence=0.9))
    assert store.restore("train/1", propagated.revision, "mika").confidence is None
    assert store.restore("train/1", propagated.revision, "propagated").confidence == 0.9


# two people, one save twice


def test_conflict_shows_both_and_stores_nothing(store):
    first = store.save(an_edit(), base=None)
    theirs = store.save(an_edit(fill=0.7, author="noor"), base=first.revision)
    mine = an_edit(fill=0.1)
    for base in (first.revision, None, 99):
        with pytest.raises(Conflict, match="revision 2 by noor") as conflict:
            store.save(mine, base=base)
        assert conflict.value.theirs == theirs
        assert unstored(conflict.value.mine) == mine
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
    assert len(won) == 1
    assert store.history() == [store.history()[0], *won]
    assert all(result.theirs == won[0] for result in results if isinstance(result, Conflict))


def test_what_others_changed_meanwhile_is_left_alone(store):
    first, other = store.save(an_edit()), store.save(an_edit("train/2"))
    store.save(an_edit("train/2", author="noor"))
    made = [replace(an_edit(fill=0.7), base=first.revision), replace(an_edit("train/2"), base=other.revision)]
    made += [an_edit("train/3"), replace(an_edit("train/4"), base=2), an_edit("train/1")]
    saved = store.save_unless_changed(made)
    assert [(edit.image_id, edit.base) for edit in saved] == [("train/1", 1), ("train/3", None)]
    assert store.current("train/2").author == "noor"


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
