"""How far people agree on which cells to erase, where several edited the same image independently."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from sigmoid_vit.edits.agreement import agreement, as_text
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.errors import run
from sigmoid_vit.options import OptionsParser, option
from sigmoid_vit.runs.folder import Run


@dataclass(kw_only=True)
class AgreementOptions:
    edits: Sequence[str] = option(
        ("edits.sqlite",), "the store, or one for each person", nargs="+", metavar="FILE"
    )
    run: str | None = option(None, "a run, for the classes of the images")
    split: str = option("train", "with --run: the part whose classes are known")


def main() -> None:
    o = OptionsParser(__doc__, AgreementOptions).parse()
    class_of = Run(o.run).class_of(o.split) if o.run else None
    with ExitStack() as stack:
        stores = [stack.enter_context(EditStore(path, readonly=True)) for path in o.edits]
        print(as_text(agreement([store.history() for store in stores], class_of)))


if __name__ == "__main__":
    run(main)
