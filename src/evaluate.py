"""Evaluate a run: figures, predictions and pictures in RUN/evaluation. Only this script opens a test part."""

from sigmoid_vit.errors import run
from sigmoid_vit.evaluation.evaluate import EvaluateOptions, evaluate, report
from sigmoid_vit.options import OptionsParser


def main() -> None:
    options = OptionsParser(__doc__, EvaluateOptions).parse()
    for metrics in evaluate(options):
        print(*report(metrics), sep="\n")


if __name__ == "__main__":
    run(main)
