"""A damaged file of a run folder is one sentence when it is read: no traceback and no other content."""

import json

import pytest
from helpers.runs import untrained_run

from sigmoid_vit import UserError
from sigmoid_vit.files import sealed, unsealed
from sigmoid_vit.model.checkpoints import save_checkpoint


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
    save_checkpoint(run.last, {"epoch": 2})
    whole = run.log_file.read_bytes()
    first, second = whole.splitlines(keepends=True)
    for damaged, sentence in (
        (whole.replace(b"0.5", b"0.9", 1), "line 1 of .*log.jsonl is damaged"),
        (first, "has lines of 1 epochs, but .*last.pt is of 2"),
        (b"", "has lines of 0 epochs, but .*last.pt is of 2"),
        (second, "lacks lines or holds some twice"),
    ):
        run.log_file.write_bytes(damaged)
        with pytest.raises(UserError, match=sentence):
            run.checkpoint_to_resume()
        assert run.log_file.read_bytes() == damaged
    run.log_file.write_bytes(whole)
    assert run.checkpoint_to_resume()["epoch"] == 2
