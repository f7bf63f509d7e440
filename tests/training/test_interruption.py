"""A run that is stopped or killed loses nothing: it goes on inside the epoch, to the same bits."""

import errno
import os
import signal

import pytest
import torch
from helpers.runs import curve, settings, train

from sigmoid_vit import UserError
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.training.interruption import Stopped
from sigmoid_vit.training.loop import Loop
from sigmoid_vit.training.trainer import Trainer
from sigmoid_vit.training.trainer import train as train_runs

MODEL = ["--model_kwargs", "patch_size=4", "embed_dim=32", "depth=2", "num_heads=2", "drop_path_rate=0.2"]
BASE = ["--epochs", "3", "--val_fraction", "0.5", "--hflip", "0.5", *MODEL]


@pytest.fixture
def at_update(monkeypatch):
    """A function: at this update, counted over all epochs, an action is done once."""
    update, count = Loop._update, [0]

    def set_action(number, action):
        count[0] = 0

        def counted(self, *args):
            update(self, *args)
            count[0] += 1
            if count[0] == number:
                action()

        monkeypatch.setattr(Loop, "_update", counted)

    return set_action


def same(one, other):
    assert curve(one) == curve(other)
    for name in ("best.pt", "last.pt"):
        a, b = (torch.load(run.folder / name, weights_only=True) for run in (one, other))
        assert a["epoch"] == b["epoch"], name
        for key in b["model"]:
            assert torch.equal(a["model"][key], b["model"][key]), (name, key)


def options_of(kind, store):
    return {
        "plain": [],
        "workers": ["--cache_gib", "0", "--workers", "2"],
        "accumulated": ["--grad_accum", "3"],
        "edited": ["--edits", store, "--unedited", "train"],
    }[kind]


@pytest.mark.parametrize("kind", ["plain", "workers", "accumulated", "edited"])
def test_stopped_by_a_signal_and_resumed_equals_uninterrupted(tmp_path, kind, ink_store, at_update):
    options = [*BASE, *options_of(kind, ink_store)]
    whole = train(tmp_path / "whole", *options)
    for number in (1, 19):  # the second time in a run that was resumed before
        at_update(number, lambda: signal.raise_signal(signal.SIGTERM))
        resume = ["--resume"] if (tmp_path / "cut/run").exists() else []
        with pytest.raises(
            Stopped, match=r"stopped by SIGTERM in epoch \d, after \d+ of 11 .*RESUME=true"
        ) as error:
            train(tmp_path / "cut", *options, *resume)
        assert error.value.exit_code == 143
    at_update(0, None)
    same(train(tmp_path / "cut", *options, "--resume"), whole)


def test_a_kill_loses_what_came_after_the_last_checkpoint_only(tmp_path, at_update):
    whole = train(tmp_path / "whole", *BASE)

    def end():
        raise KeyboardInterrupt

    at_update(17, end)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", *BASE, "--checkpoint_minutes", "0")
    kept = torch.load(tmp_path / "cut/run/last.pt", weights_only=True)
    assert (kept["epoch"], kept["begun"][0]) == (1, 5)  # of 17 updates, all but the one that was cut
    at_update(0, None)
    same(train(tmp_path / "cut", *BASE, "--checkpoint_minutes", "0", "--resume"), whole)


def test_a_stop_between_two_epochs(tmp_path, monkeypatch):
    whole, save = train(tmp_path / "whole", *BASE), Trainer._save
    monkeypatch.setattr(Trainer, "_save", lambda *a: (save(*a), signal.raise_signal(signal.SIGUSR1)))
    with pytest.raises(Stopped, match="stopped by SIGUSR1 after epoch 1 of 3"):
        train(tmp_path / "cut", *BASE)
    monkeypatch.setattr(Trainer, "_save", save)
    same(train(tmp_path / "cut", *BASE, "--resume"), whole)


@pytest.fixture
def finished(tmp_path):
    return train(tmp_path, "--epochs", "3", "--val_fraction", "0.5")


def resumed(folder):
    trainer = Trainer(settings(folder, "--epochs", "3", "--val_fraction", "0.5", "--resume"))
    trainer.prepare()
    trainer.fit()


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PK")])
def test_the_checkpoint_before_takes_the_place_of_a_lost_one(tmp_path, finished, damage, capsys):
    before, weights = curve(finished), torch.load(finished.last, weights_only=True)["model"]
    damage(finished.last)
    resumed(tmp_path)
    assert "going on from" in capsys.readouterr().err
    assert curve(finished) == before
    again = torch.load(finished.last, weights_only=True)["model"]
    assert all(torch.equal(again[key], weights[key]) for key in weights)


def test_a_run_without_any_checkpoint_is_not_trained_over(tmp_path, finished):
    finished.last.unlink()
    finished.previous.unlink()
    best = finished.best.read_bytes()
    with pytest.raises(UserError, match=r"last.pt is missing; there is no earlier checkpoint .*restore it"):
        resumed(tmp_path)
    assert finished.best.read_bytes() == best
    assert len(finished.history()) == 3


# ---------------------------------------------------------------- one training a folder


def test_the_second_training_names_the_first(tmp_path):
    run = Run(tmp_path / "run")
    with (
        run.claimed(),
        pytest.raises(UserError, match=r"run is being trained by .* since 20\d\d-.*process \d+ on "),
    ):
        train_runs([settings(tmp_path)])
    assert not run.folder.exists()
    train_runs([settings(tmp_path, "--epochs", "1")])
    assert not run.lock.exists()
    with run.claimed(), pytest.raises(UserError, match="is being trained"):
        train_runs([settings(tmp_path, "--epochs", "1", "--resume")])


def test_an_empty_folder_and_one_of_a_cut_start_can_be_trained_into(tmp_path):
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    leftover = run.folder / ".last.pt.0123abcd.tmp"
    for path in (run.images, run.lock, leftover):
        path.write_text("")
    train_runs([settings(tmp_path, "--epochs", "1")])
    assert len(run.history()) == 1
    assert not leftover.exists()


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_from_before(tmp_path, monkeypatch):
    options = ["--epochs", "2", "--val_fraction", "0.5"]
    whole, log = train(tmp_path / "whole", *options), Run.log

    def full(self, line):
        if line["epoch"] == 1:
            return log(self, line)
        self.log_file.open("a").write('{"epoch": 2, "lo')
        monkeypatch.setattr(type(self.log_file), "open", no_space)
        return log(self, line)

    def no_space(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", full)
        with pytest.raises(UserError, match=r"cannot write .*log.jsonl .*No space.*disk full"):
            train(tmp_path / "cut", *options)
        monkeypatch.undo()
    same(train(tmp_path / "cut", *options, "--resume"), whole)
