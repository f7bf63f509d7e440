"""Command lines made from dataclasses: an option's name, type, default, range and help are said once.

@dataclass
class Options:
    run: str = option(text="the run's folder")          # no default: required
    count: int = option(5, "how many images", low=1)

    def __post_init__(self) -> None:
        check_options(self)

options = OptionsParser(__doc__, Options).parse()
"""

import argparse
import difflib
import math
from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields
from typing import NoReturn, get_args

from timm.utils import ParseKwargs

from sigmoid_vit.errors import UserError


def option(
    default=MISSING,
    text: str = "",
    choices: Sequence[str] | None = None,
    low: float | None = None,
    high: float = math.inf,
    **argument,
):
    """A dataclass field that is an option of a command line.

    Args:
        default: its value when it is left out; a callable makes it; without one the option is required.
        text: its help.
        choices, low, high: the valid values, or the range of a number, both ends included.
        **argument: what argparse is told besides, such as nargs; `flag` in place of "--<name>", without
            dashes for what is named by its place alone.
    """
    metadata = {"text": text, "choices": choices, "low": low, "high": high, "argument": argument}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def check_options(options: object, spelled=lambda name: f"--{name}") -> None:
    """Refuse a value outside the choices or the range of its field; None stands for "not given".

    Args:
        spelled: how the person writes the option of a field.
    """
    for f in fields(options):
        value, m = getattr(options, f.name), f.metadata
        if value is None or not m:
            continue
        if m["choices"] and value not in m["choices"]:
            raise UserError(f"{spelled(f.name)} is {value!r}; it must be one of {', '.join(m['choices'])}")
        if m["low"] is not None and not m["low"] <= value <= m["high"]:
            endless = m["high"] == math.inf
            valid = f"at least {m['low']}" if endless else f"between {m['low']} and {m['high']}"
            raise UserError(f"{spelled(f.name)} is {value}; it must be {valid}")


class OptionsParser(argparse.ArgumentParser):
    """One option per field of a dataclass, no abbreviations; its errors are `UserError`s."""

    def __init__(self, description: str, kind: type) -> None:
        super().__init__(
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.kind = kind
        for f in fields(kind):
            name, argument = _argument(f)
            self.add_argument(name, **argument)

    def parse(self, args: list[str] | None = None):
        """The dataclass filled from the command line.

        Raises:
            UserError: an unknown option or value; the sentence lists the valid ones.
        """
        return self.kind(**self.given(args))

    def given(self, args: list[str] | None = None) -> dict:
        """The options that the command line names, by field; what it leaves out is not in it."""
        try:
            given, unknown = self.parse_known_args(args)
        except ValueError as error:  # timm's ParseKwargs on an argument without "="
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"MODEL_KWARGS or DATA_KWARGS cannot be read ({error}); give key=value key=value"
            ) from error
        if unknown:
            self.error(self._unknown(unknown[0]))
        return vars(given)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help lists the options)")

    def _unknown(self, text: str) -> str:
        names = [action.option_strings[-1] for action in self._actions if action.option_strings]
        close = difflib.get_close_matches(text.split("=")[0], names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"the options are {' '.join(names)}"
        return f"unknown option {text}; {hint}"


class KeyValues(ParseKwargs):
    """timm's key=value pairs, with true and false in any case: as a text, "false" would count as true."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        super().__call__(parser, namespace, values, option_string)
        words = {"true": True, "false": False}
        pairs = getattr(namespace, self.dest)
        pairs |= {k: words.get(v.lower(), v) for k, v in pairs.items() if isinstance(v, str)}


def parse_bool(text: str) -> bool:
    """ "true" or "false" in any case."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _argument(f: Field) -> tuple[str, dict]:
    """The option of a field, and what argparse is told of it."""
    required = f.default is MISSING and f.default_factory is MISSING
    default = None if required else f.default if f.default is not MISSING else f.default_factory()
    shown = (
        "" if default in ("", None, (), {}) or "default:" in f.metadata["text"] else f" (default: {default})"
    )
    argument = {"help": f.metadata["text"].replace("%", "%%") + shown, "required": required}
    argument |= {} if required else {"default": argparse.SUPPRESS}
    kind = next((t for t in get_args(f.type) if t is not type(None)), f.type)  # of "int | None": int
    if kind is bool:
        argument |= {"type": parse_bool, "nargs": "?", "const": True, "metavar": "true|false"}
    elif kind is dict:
        argument |= {"nargs": "*", "action": KeyValues, "metavar": "KEY=VALUE"}
    else:
        argument |= {"type": kind if kind in (int, float) else str, "choices": f.metadata["choices"]}
    argument |= f.metadata["argument"]
    flag = argument.pop("flag", f"--{f.name}")
    if not flag.startswith("-"):
        del argument["required"]
        return f.name, argument
    return flag, argument | {"dest": f.name}
