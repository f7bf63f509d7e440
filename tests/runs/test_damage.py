"""A damaged file of a run folder is one sentence when it is read: no traceback and no other content."""

import json

import numpy as np
import pytest
from helpers.runs import settings, untrained_run
from helpers.step2 import edit_every_digit

from sigmoid_vit import UserError
from sigmoid_vit.data import load_data
from sigmoid_vit.edits.maps import EditMaps, load_edits
from sigmoid_vit.files import sealed, unsealed

IDS = load_data("digits_decoy").train.ids


def read_edits(run):
    maps = EditMaps.read(run.edits, IDS)
    return maps.value.tolist(), maps.edited.tolist(), maps.propagated.tolist()


READERS = {
    "config.json": lambda run: run.facts(),
    "log.jsonl": lambda run: run.history(),
    "images.csv": lambda run: (run.open_data().train.ids, run.open_data().val.ids),
    "edits.npz": read_edits,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage")
    run = untrained_run(folder)
    for epoch in range(1, 4):
        run.log({"epoch": epoch, "loss": 1 / epoch, "val_accuracy": 0.1 * epoch})
    part = load_data("digits_decoy").train
    load_edits(edit_every_digit(folder / "all.sqlite"), part, (6, 6))[0].write(run.edits, IDS)
    return run


@pytest.mark.parametrize("name", READERS)
def test_a_changed_byte_is_told_or_changes_nothing(run, name):
    path, random = run.folder / name, np.random.default_rng(0)
    whole, expected = path.read_bytes(), READERS[name](run)
    told = 0
    try:
        for _ in range(25):
            damaged = bytearray(whole)
            damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
            path.write_bytes(damaged)
            try:
                assert READERS[name](run) == expected
            except UserError as error:
                told += 1
                assert name in str(error)
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match="damaged"):
            READERS[name](run)
    finally:
        path.write_bytes(whole)
    assert told >= 15


def test_the_checksum_is_of_the_content():
    """Numbers, names and order as JSON keeps them; what had no checksum is taken as it is."""
    content = {"b": [1, 2.5], "a": {"x": None, "\u3042": 1e-300}}
    assert unsealed(json.loads(json.dumps(sealed(content))), always=True) == content
    assert unsealed({"a": 1}, always=False) == {"a": 1}
    for damaged, always in ((sealed(content) | {"more": 1}, False), ({"a": 1}, True)):
        with pytest.raises(ValueError, match="checksum"):
            unsealed(damaged, always)


def test_damage_is_known_before_training(tmp_path):
    run = untrained_run(tmp_path, "--epochs", "3")
    for epoch in (1, 2):
        run.log({"epoch": epoch, "loss": 1.0, "val_accuracy": 0.5})
    run.log_file.write_bytes(run.log_file.read_bytes().replace(b"0.5", b"0.9", 1))
    assert settings(tmp_path)
    with pytest.raises(UserError, match=r"line 1 of .*log.jsonl is damaged"):
        run.checkpoint_to_resume()
