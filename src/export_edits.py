"""Export a store's edits without loss to a folder of open formats, for import_edits.py --from export."""

from sigmoid_vit.errors import Parser, run
from sigmoid_vit.interchange import export_edits
from sigmoid_vit.store import EditStore


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--edits", default="edits.sqlite", help="the store (default: edits.sqlite)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write, new or empty")
    parser.add_argument("--history", action="store_true", help="all revisions, not the current edits alone")
    threshold = "value from which masks.json says attended (default: 0.5)"
    parser.add_argument("--threshold", type=float, default=0.5, help=threshold)
    args = parser.parse_args()
    with EditStore(args.edits, readonly=True) as store:
        edits = export_edits(store, args.out, args.history, args.threshold)
    print(f"{args.out}: {len(edits)} edits of {len({edit.image_id for edit in edits})} images")


if __name__ == "__main__":
    run(main)
