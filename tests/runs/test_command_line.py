"""The settings from the command line: bad ones are refused, Step 2 starts from what Step 1 was made with."""

import pytest
from helpers.runs import settings

from sigmoid_vit import UserError
from sigmoid_vit.files import write_json
from sigmoid_vit.runs.folder import open_data


@pytest.mark.parametrize(
    "args, says",
    [
        (["--dataset", "mnist"], r"'mnist'.*cifar10.*digits_decoy"),
        (["--learning_rate", "1"], r"unknown option --learning_rate; the options are .*--lr"),
        (["--epoch", "3"], "did you mean --epochs"),
        (["--opt", "lion"], r"'lion'.*adam.*sgd"),
        (["--seed", str(2**63)], "SEED is .*; it must be between 0 and 4294967295"),
        (["--lr", "1e300"], r"LR is 1e\+300; it must be above 0 and at most 1000"),
        (["--runs_name", "n" * 300], "RUNS_NAME has 300 letters; it may have 200 bytes"),
        (["--epochs", "0"], "EPOCHS is 0; it must be at least 1"),
        (["--epochs", "many"], "invalid int value: 'many'"),
        (["--val_fraction", "2"], "VAL_FRACTION is 2.0; it must be between 0 and 0.9"),
        (["--lr", "0"], "LR is 0.0"),
        (["--wandb", "maybe"], "neither true nor false"),
        (["--model_kwargs", "depth"], "give key=value"),
        (["--seed", "-1"], "SEED is -1"),
        (["--runs_name", "../x"], "plain folder name"),
        (["--batch_size", "4", "--grad_accum", "8"], "BATCH_SIZE 4 is smaller than GRAD_ACCUM 8"),
        (["--propagate", "true"], "PROPAGATE is given without EDITS"),
        (["--edits", "e.sqlite", "--doubted", "drop"], "DOUBTED=drop needs PROPAGATE=true"),
    ],
)
def test_bad_settings_are_refused(tmp_path, args, says):
    with pytest.raises(UserError, match=says):
        settings(tmp_path, *args)


def finished(folder, made_with):
    """What a finished run with these settings leaves, as far as the settings of Step 2 read it."""
    write_json(folder / "config.json", {"settings": made_with.as_dict()})
    (folder / "best.pt").touch()
    return ["--first_step", str(folder), "--edits", "e.sqlite"]


@pytest.fixture
def paper(tmp_path):
    """The settings of a first round of edits by the paper's recipe."""
    return settings(tmp_path, "--edits", "e.sqlite", "--hitl", "paper", "--attn_lambda", "7", "--seed", "3")


def test_a_second_round_starts_from_the_preset(paper, tmp_path):
    options = finished(tmp_path / "first", paper)
    second = settings(tmp_path, *options, "--hitl", "full", "--seed", "5")
    fresh = settings(tmp_path, "--edits", "e.sqlite")
    for name in ("hitl", "inject", "attn_loss", "attn_lambda", "edit_layers", "edit_queries", "unedited"):
        assert getattr(second, name) == getattr(fresh, name), name
    assert settings(tmp_path, *options) == settings(tmp_path, *options, "--hitl", "full")
    assert settings(tmp_path, *options, "--hitl", "paper").attn_loss == "mse"


def test_pretrained_as_it_was_exported_for_step_1_does_not_undo_it(tmp_path, capsys):
    for own in ("false", str(tmp_path / "published.pt")):
        options = finished(tmp_path / "first", settings(tmp_path, "--pretrained", own))
        for given in (own, "false", "False"):
            assert settings(tmp_path, *options, "--pretrained", given).pretrained.endswith("first/best.pt")
            assert f"starts from the weights of FIRST_STEP, so PRETRAINED={given} is left out" in (
                capsys.readouterr().err
            )
        assert settings(tmp_path, *options).pretrained.endswith("first/best.pt")
        assert settings(tmp_path, *options, "--pretrained", "other.pt").pretrained == "other.pt"
        assert not capsys.readouterr().err
    assert settings(tmp_path, "--edits", "e.sqlite", "--pretrained", "false").pretrained == "false"


def test_what_step_1_has_learned_is_never_validated_on(paper, tmp_path):
    options = finished(tmp_path / "first", paper)
    second = settings(tmp_path, *options, "--seed", "5")
    assert second.seed == 5
    assert open_data(second).val.ids == open_data(paper).val.ids
    third = finished(tmp_path / "third", second)
    assert settings(tmp_path, *third, "--seed", "7").cut_seed == 3
    assert settings(tmp_path, *options).as_dict()["split_seed"] == -1  # as without the setting
    assert settings(tmp_path, *options, "--val_fraction", "0").val_fraction == 0
    for other in (["--val_fraction", "0.2"], ["--split_seed", "5"]):
        with pytest.raises(UserError, match="has learned the other images"):
            settings(tmp_path, *options, *other)
