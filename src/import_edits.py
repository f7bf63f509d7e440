"""Make edits of people's attention: masks, boxes, heat maps or gaze. An image without a mask gets no edit."""

from sigmoid_vit.errors import Parser, run
from sigmoid_vit.human_attention import MASK_EDITS, SELECTIONS, SIGMA, SOURCES, ImportOptions, import_edits


def main() -> None:
    parser = Parser(__doc__)
    add = parser.add_argument
    source = (
        f"{', '.join(SOURCES)}; then the folder of masks (none: beside the images) or of gaze maps, or the "
    )
    source += "gaze files; ink is digits_decoy's own and stands in for a person; export and a folder of "
    source += "src/export_edits.py: those edits as they are"
    add("--from", dest="source", nargs="+", required=True, metavar=("SOURCE", "PATH"), help=source)
    add("--edits", default="edits.sqlite", help="the store (default: edits.sqlite)")
    add("--run", help="a run, result/<RUNS_NAME>: its model's grid, its data set, and its eyes for --select")
    add("--grid", help="instead of --run: patch grid as HEIGHTxWIDTH in cells, such as 14x14")
    add("--dataset", help="data set (default: the run's, or the source's own)")
    add("--dataset_path", help="its folder (default: the run's, or data)")
    add("--split", default="train", help="train, val or a test part (default: train)")
    add("--val_fraction", type=float, help="part of train kept as val (default: the run's, or 0.1)")
    meaning = (
        "background: cells outside become 0; object: cells inside become --object_value; both; soft: every "
    )
    meaning += "cell becomes the mean of the map (default: soft for gaze and gaze_maps, else background)"
    add("--mask_edit", metavar="|".join(MASK_EDITS), help=meaning)
    add("--object_value", type=float, default=0.9, help="from 0 to 1 (default: 0.9)")
    covered = "share of a cell that is marked (map at 0.5 or more) from which it counts as inside "
    add("--covered", type=float, help=covered + "(default: 0.5; for ink 0, any marked pixel)")
    add("--boxes", action="store_true", help="CUB: bounding boxes instead of segmentations")
    sigma = f"gaze: standard deviation of the Gaussian, of the image's longer side (default: {SIGMA})"
    add("--sigma", type=float, default=SIGMA, help=sigma)
    add(
        "--fraction", type=float, help="edit at most this share of the images (default: all that have a mask)"
    )
    add("--count", type=int, help="edit at most this many images")
    select = "which: stratified over classes; misclassified; least sure; attention mostly outside the mask"
    add("--select", default="random", metavar="|".join(SELECTIONS), help=select)
    add("--seed", type=int, default=0, help="of random, and without --run of the cut of val (default: 0)")
    add(
        "--missing",
        type=float,
        default=0.0,
        help="to study careless edits: leave out this share of the cells",
    )
    add("--wrong", type=float, default=0.0, help="for study: give this share of the images a random map")
    add("--author", help="whose edits these are (default: the source's name)")
    add("--skip_bad_images", action="store_true", help="leave out unreadable files instead of stopping")
    args = vars(parser.parse_args())
    args["source"], *args["files"] = args["source"]
    print(import_edits(ImportOptions(**args)).text())


if __name__ == "__main__":
    run(main)
