"""Export a store without loss to a folder of open formats, copy it, or say how far people agree."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from sigmoid_vit.edits.agreement import agreement, as_text
from sigmoid_vit.edits.exchange import export_edits
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.errors import UserError, run
from sigmoid_vit.options import OptionsParser, option
from sigmoid_vit.runs.folder import Run


@dataclass(kw_only=True)
class Options:
    edits: str = option("edits.sqlite", "the store")
    out: str | None = option(
        None, "folder to write, new or empty; import_edits.py --from export reads it", metavar="DIR"
    )
    backup: str | None = option(None, "instead: new file to copy the whole store to", metavar="FILE")
    agreement: bool = option(False, "instead: print how far people agree on which cells to erase")
    also: Sequence[str] = option(
        (), "with --agreement: a further store, of other people", action="append", metavar="FILE"
    )
    run: str | None = option(None, "a run, for the classes of the images")
    split: str = option("train", "with --run: the part whose classes are known")
    history: bool = option(False, "all revisions, not the current edits alone")
    threshold: float = option(0.5, "value from which masks.json says attended")


def classes_of_images(run: str, split: str) -> dict[str, str]:
    opened = Run(run)
    part = opened.open_data().part(split)
    return {image_id: opened.classes[label] for image_id, label in zip(part.ids, part.labels, strict=True)}


def main() -> None:
    o = OptionsParser(__doc__, Options).parse()
    if sum((o.out is not None, o.backup is not None, o.agreement)) != 1:
        raise UserError("give either --out DIR, --backup FILE or --agreement")
    class_of = classes_of_images(o.run, o.split) if o.run else None
    if o.agreement:
        with ExitStack() as stack:
            stores = [stack.enter_context(EditStore(path, readonly=True)) for path in (o.edits, *o.also)]
            print(as_text(agreement([store.history() for store in stores], class_of)))
        return
    with EditStore(o.edits, readonly=True) as store:
        if o.backup:
            store.backup(o.backup)
            print(f"{o.backup}: a copy of {o.edits}")
            return
        edits = export_edits(store, o.out, o.history, o.threshold, class_of)
    print(f"{o.out}: {len(edits)} edits of {len({edit.image_id for edit in edits})} images")


if __name__ == "__main__":
    run(main)
