"""Export a store's edits without loss to a folder of open formats, for import_edits.py --from export."""

from dataclasses import dataclass

from sigmoid_vit.edits.exchange import export_edits
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.errors import run
from sigmoid_vit.options import OptionsParser, option


@dataclass(kw_only=True)
class Options:
    edits: str = option("edits.sqlite", "the store")
    out: str = option(text="folder to write, new or empty", metavar="DIR")
    history: bool = option(False, "all revisions, not the current edits alone")
    threshold: float = option(0.5, "value from which masks.json says attended")


def main() -> None:
    o = OptionsParser(__doc__, Options).parse()
    with EditStore(o.edits, readonly=True) as store:
        edits = export_edits(store, o.out, o.history, o.threshold)
    print(f"{o.out}: {len(edits)} edits of {len({edit.image_id for edit in edits})} images")


if __name__ == "__main__":
    run(main)
