"""Export a store without loss to a folder of open formats, or copy it, also while it is in use."""

from dataclasses import dataclass

from sigmoid_vit.edits.exchange import export_edits
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.errors import UserError, run
from sigmoid_vit.options import OptionsParser, option


@dataclass(kw_only=True)
class Options:
    edits: str = option("edits.sqlite", "the store")
    out: str | None = option(
        None, "folder to write, new or empty; import_edits.py --from export reads it", metavar="DIR"
    )
    backup: str | None = option(None, "instead: new file to copy the whole store to", metavar="FILE")
    history: bool = option(False, "all revisions, not the current edits alone")
    threshold: float = option(0.5, "value from which masks.json says attended")


def main() -> None:
    o = OptionsParser(__doc__, Options).parse()
    if (o.out is None) == (o.backup is None):
        raise UserError("give either --out DIR or --backup FILE")
    with EditStore(o.edits, readonly=True) as store:
        if o.backup:
            store.backup(o.backup)
            print(f"{o.backup}: a copy of {o.edits}")
            return
        edits = export_edits(store, o.out, o.history, o.threshold)
    print(f"{o.out}: {len(edits)} edits of {len({edit.image_id for edit in edits})} images")


if __name__ == "__main__":
    run(main)
