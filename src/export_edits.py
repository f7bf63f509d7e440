"""Export a store without loss to open formats, or for an annotation tool, or copy it, also while in use."""

from dataclasses import dataclass

from sigmoid_vit.annotations.formats.label_studio import LOCAL
from sigmoid_vit.annotations.tool_export import TOOLS, export_to_tool
from sigmoid_vit.edits.exchange import export_edits
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.errors import UserError, run
from sigmoid_vit.options import OptionsParser, check_options, option
from sigmoid_vit.runs.folder import Run


@dataclass(kw_only=True)
class Options:
    edits: str = option("edits.sqlite", "the store")
    out: str | None = option(
        None,
        "folder to write, new or empty, import_edits.py --from export reads it; with --to, the file to write",
        metavar="PATH",
    )
    to: str | None = option(None, "for this annotation tool, as masks labelled keep and erase", TOOLS)
    images: str | None = option(None, "with --to: the folder of the data set", metavar="DIR")
    image_url: str = option(LOCAL, "with --to label_studio: what stands before the path of an image")
    backup: str | None = option(None, "instead: new file to copy the whole store to", metavar="FILE")
    run: str | None = option(None, "a run, for the classes of the images in agreement.json")
    split: str = option("train", "with --run: the part whose classes are known")
    history: bool = option(False, "all revisions, not the current edits alone")
    threshold: float = option(
        0.5, "value from which masks.json says attended, and --to says keep", low=0, high=1
    )

    def __post_init__(self) -> None:
        check_options(self)
        if (self.out is None) == (self.backup is None):
            raise UserError("give either --out DIR or --backup FILE")
        if (self.to is None) != (self.images is None) or (self.to and (self.out is None or self.history)):
            raise UserError(
                "--to TOOL goes with --images DIR and --out FILE, and writes the current edits only"
            )


def main() -> None:
    o = OptionsParser(__doc__, Options).parse()
    with EditStore(o.edits, readonly=True) as store:
        if o.backup:
            store.backup(o.backup)
            print(f"{o.backup}: a copy of {o.edits}")
        elif o.to:
            print(export_to_tool(store, o.to, o.images, o.out, o.threshold, o.image_url).text())
        else:
            class_of = Run(o.run).class_of(o.split) if o.run else None
            edits = export_edits(store, o.out, o.history, o.threshold, class_of)
            print(f"{o.out}: {len(edits)} edits of {len({edit.image_id for edit in edits})} images")


if __name__ == "__main__":
    run(main)
