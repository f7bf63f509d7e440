"""Evaluate a run: figures, predictions and pictures in RUN/evaluation. Only this script opens a test part."""

from sigmoid_vit.errors import Parser, positive, run
from sigmoid_vit.evaluation import evaluate_run


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--run", required=True, help="the run's folder, result/<RUNS_NAME>")
    parser.add_argument(
        "--split", help="train, val or a test part (default: test, or val where there is no test)"
    )
    parser.add_argument("--checkpoint", default="best", choices=("best", "last"))
    parser.add_argument("--dataset_path", help="where the data set is now, if it was moved")
    parser.add_argument("--batch_size", type=positive, help="images at a time")
    parser.add_argument("--errors", type=positive, default=6, help="how many errors to picture (default: 6)")
    args = parser.parse_args()
    metrics = evaluate_run(
        args.run, args.split, args.checkpoint, args.dataset_path, args.batch_size, args.errors
    )
    tops = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name.startswith("top"))
    print(f"{args.run} on {metrics['split']} ({metrics['n']} images): {tops}")
    print(
        f"MPP {metrics['mpp']['mean']:.4f}, ECE {metrics['ece']:.4f}, macro {metrics['macro_accuracy']:.4f}"
    )
    print(f"figures, predictions and pictures: {metrics['folder']}")


if __name__ == "__main__":
    run(main)
