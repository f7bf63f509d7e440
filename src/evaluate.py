"""Evaluate a run: figures, predictions and pictures in RUN/evaluation. Only this script opens a test part."""

from sigmoid_vit.comparison import compare_runs, comparison_report
from sigmoid_vit.errors import Parser, positive, run
from sigmoid_vit.evaluation import evaluate_run, picture_change, report


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--run", required=True, help="the run's folder, result/<RUNS_NAME>")
    parser.add_argument(
        "--split", nargs="+", help="train, val or test parts (default: test, or val where there is no test)"
    )
    parser.add_argument("--checkpoint", default="best", choices=("best", "last"))
    parser.add_argument("--dataset_path", help="where the data set is now, if it was moved")
    parser.add_argument("--batch_size", type=positive, help="images at a time")
    parser.add_argument(
        "--errors",
        type=int,
        default=6,
        help="how many errors and how many hits to picture (default: 6; 0: none)",
    )
    parser.add_argument(
        "--masks", metavar="DIR", help="measure the attention against masks, one per image, in this folder"
    )
    parser.add_argument(
        "--edits", metavar="STORE", help="or against the edits of people in this store (default: own masks)"
    )
    parser.add_argument(
        "--faithfulness",
        type=int,
        default=50,
        help="images for insertion and deletion (default: 50; 0: none)",
    )
    parser.add_argument(
        "--against", metavar="RUN", help="the run before: what was fixed, what was broken, McNemar's test"
    )
    args = parser.parse_args()
    measured = dict(masks=args.masks, edits=args.edits, faithfulness=args.faithfulness)
    for split in args.split or [None]:
        common = (split, args.checkpoint, args.dataset_path, args.batch_size, args.errors)
        if args.against:  # first, so that runs that cannot be compared are refused at once
            change = compare_runs(args.run, args.against, *common)
        for line in report(args.run, evaluate_run(args.run, *common, **measured)):
            print(line)
        if args.against:
            picture_change(change, args.run, args.against, args.dataset_path)
            print(comparison_report(change))


if __name__ == "__main__":
    run(main)
