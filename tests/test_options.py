"""Command lines made from dataclasses: each option is said once, and every mistake is one sentence."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import pytest

from sigmoid_vit import UserError
from sigmoid_vit.annotations.import_options import ImportOptions
from sigmoid_vit.editor import EditorOptions
from sigmoid_vit.evaluation.evaluate import EvaluateOptions
from sigmoid_vit.options import OptionsParser, check_options, option
from sigmoid_vit.runs.command_line import SettingsParser
from sigmoid_vit.runs.settings import Settings
from sigmoid_vit.training.benchmark import BenchmarkOptions


@dataclass
class Options:
    run: str = option(text="the run's folder")
    count: int = option(5, "how many, 50 % at most", low=1, high=50)
    share: float | None = option(None, "of the images", low=0, high=1)
    kind: str = option("a", "which", ("a", "b"))
    fast: bool = option(False, "not slow")
    pairs: dict = option(dict, "as key=value")
    parts: Sequence[str] = option((), "train or val", nargs="+")
    source: list[str] = option(list, "from where", flag="--from", nargs="+", metavar="PATH")
    out: Path = option(Path("out"), "folder to write")

    def __post_init__(self) -> None:
        check_options(self)


def parse(*args):
    return OptionsParser("", Options).parse(["--run", "result/x", *args])


def refusal(*args):
    with pytest.raises(UserError) as refused:
        parse(*args)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_left_out_takes_its_default():
    assert parse() == Options("result/x")


def test_an_option_takes_the_type_of_its_field():
    found = parse("--count", "7", "--share", "0.5", "--kind", "b", "--parts", "train", "val", "--out", "o")
    assert (found.count, type(found.count)) == (7, int)
    assert (found.share, type(found.share)) == (0.5, float)
    assert found.kind == "b"
    assert found.parts == ["train", "val"]
    assert Path(found.out) == Path("o")


def test_an_option_may_have_another_name_than_its_field():
    assert parse("--from", "masks", "folder").source == ["masks", "folder"]
    assert "unknown option --source" in refusal("--source", "masks")


def test_the_default_of_one_command_line_is_not_that_of_the_next():
    parse("--pairs", "a=1").pairs["b"] = 2
    parse().pairs["c"] = 3
    assert parse().pairs == {}


def test_only_what_was_said_is_given():
    given = OptionsParser("", Options).given(["--run", "x", "--count", "5"])
    assert given == {"run": "x", "count": 5}


def test_a_required_option_is_missed_by_name():
    with pytest.raises(UserError, match=r"arguments are required: --run \(--help lists the options\)"):
        OptionsParser("", Options).parse([])


def test_an_unknown_option_is_named_with_the_closest_one():
    assert "unknown option --cuont; did you mean --count?" in refusal("--cuont", "3")
    assert "unknown option --cuont=3; did you mean --count?" in refusal("--cuont=3")


def test_an_unknown_option_like_no_other_lists_them_all():
    sentence = refusal("--zzz")
    for name in ("--run", "--count", "--from", "--out"):
        assert name in sentence
    assert "did you mean" not in sentence


def test_nothing_is_abbreviated():
    assert "unknown option --cou; did you mean --count?" in refusal("--cou", "3")


def test_a_word_too_many_is_refused():
    assert "unknown option more" in refusal("more")


def test_a_value_outside_the_choices_is_refused_with_them():
    sentence = refusal("--kind", "c")
    assert "--kind" in sentence
    assert "'c'" in sentence
    assert "'a', 'b'" in sentence
    with pytest.raises(UserError, match="--kind is 'c'; it must be one of a, b"):
        Options("x", kind="c")


@pytest.mark.parametrize("value", ["0", "51"])
def test_a_number_outside_its_range_is_refused_with_it(value):
    assert refusal("--count", value) == f"--count is {value}; it must be between 1 and 50"


def test_both_ends_of_a_range_are_in_it():
    assert [parse("--count", end).count for end in ("1", "50")] == [1, 50]
    assert [parse("--share", end).share for end in ("0", "1")] == [0, 1]


def test_nan_is_outside_every_range():
    assert "--share is nan" in refusal("--share", "nan")


def test_a_range_without_an_upper_end_says_so():
    @dataclass
    class Open:
        n: int = option(1, low=1)

    with pytest.raises(UserError, match="N is 0; it must be at least 1"):
        check_options(Open(0), str.upper)


def test_none_stands_for_not_given_and_is_in_no_range():
    assert parse().share is None
    assert Options("x", count=None).count is None


def test_what_is_no_number_is_refused():
    assert "argument --count: invalid int value: 'many'" in refusal("--count", "many")


@pytest.mark.parametrize(
    "args, fast",
    [
        ([], False),
        (["--fast"], True),
        (["--fast", "true"], True),
        (["--fast", "False"], False),
        (["--fast", "FALSE"], False),
        (["--fast=True"], True),
    ],
)
def test_a_flag_stands_alone_or_is_true_or_false_in_any_case(args, fast):
    assert parse(*args).fast is fast


def test_a_flag_is_nothing_else():
    assert "'yes' is neither true nor false" in refusal("--fast", "yes")


def test_pairs_are_typed_and_false_is_no_text():
    found = parse("--pairs", "depth=3", "rate=0.1", "norm=true", "bias=FALSE", "name=x").pairs
    assert found == {"depth": 3, "rate": 0.1, "norm": True, "bias": False, "name": "x"}
    assert found["bias"] is False


def test_a_pair_without_a_value_is_refused():
    assert "give key=value key=value" in refusal("--pairs", "depth")


def test_the_help_says_text_and_default():
    text = " ".join(OptionsParser("What it does.", Options).format_help().split())
    assert "What it does." in text
    assert "how many, 50 % at most (default: 5)" in text
    assert "--fast [true|false] not slow (default: False)" in text
    assert "--pairs [KEY=VALUE ...] as key=value" in text
    assert "default: None" not in text
    assert "default: {}" not in text


PARSERS = {
    Settings: lambda: SettingsParser(""),
    **{
        kind: lambda kind=kind: OptionsParser("", kind)
        for kind in (ImportOptions, EditorOptions, EvaluateOptions, BenchmarkOptions)
    },
}


@pytest.mark.parametrize("kind", PARSERS, ids=lambda kind: kind.__name__)
def test_every_field_is_an_option_with_a_help(kind):
    parser = PARSERS[kind]()
    text = parser.format_help()
    for f in fields(kind):
        flag = f.metadata["argument"].get("flag", f"--{f.name}")
        assert flag in parser._option_string_actions, f.name
        assert f"{flag} " in text, f.name
        assert f.metadata["text"], f.name


@pytest.mark.parametrize("kind", PARSERS, ids=lambda kind: kind.__name__)
def test_what_has_no_default_is_required(kind):
    required = [f for f in fields(kind) if f.default is f.default_factory is MISSING]
    if not required:
        PARSERS[kind]().parse([])
        return
    with pytest.raises(UserError, match="required") as refused:
        PARSERS[kind]().parse([])
    for f in required:
        assert f.metadata["argument"].get("flag", f"--{f.name}") in str(refused.value)


@pytest.mark.parametrize(
    "kind, args",
    [
        (Settings, ["--batch_size", "0"]),
        (ImportOptions, ["--from", "ink", "--grid", "6x6", "--count", "0"]),
        (EditorOptions, ["--run", "x", "--port", "70000"]),
        (EvaluateOptions, ["--run", "x", "--errors", "-1"]),
        (BenchmarkOptions, ["--what", "step", "--rounds", "0"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_range_holds_on_every_command_line(kind, args):
    parser = PARSERS[kind]()
    parse = getattr(parser, "parse_settings", parser.parse)
    with pytest.raises(UserError, match=rf"(?i){args[-2].lstrip('-')} is {args[-1]}; it must be "):
        parse(args)
