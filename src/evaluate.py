"""Evaluate a run: figures, predictions and pictures in RUN/evaluation. Only this script opens a test part."""

from sigmoid_vit.errors import Parser, positive, run
from sigmoid_vit.evaluation import evaluate_run, report


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
        help="how many errors, hits, fixed and broken images to picture, of each (default: 6; 0: none)",
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
    for split in args.split or [None]:
        found = evaluate_run(
            args.run,
            split=split,
            which=args.checkpoint,
            dataset_path=args.dataset_path,
            batch_size=args.batch_size,
            errors_shown=args.errors,
            masks=args.masks,
            edits=args.edits,
            faithfulness=args.faithfulness,
            against=args.against,
        )
        print(*report(args.run, found), sep="\n")


if __name__ == "__main__":
    run(main)
