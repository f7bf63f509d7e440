"""Predict images by a run's network: files, folders, patterns or lists; writes CSV and JSON lines."""

from sigmoid_vit.deployment.predict import PredictOptions, predict
from sigmoid_vit.errors import run
from sigmoid_vit.options import OptionsParser


def main() -> None:
    print(predict(OptionsParser(__doc__, PredictOptions).parse()).text())


if __name__ == "__main__":
    run(main)
