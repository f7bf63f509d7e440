"""Export a run's network for other programs, with its preprocessing, checked against the run."""

from sigmoid_vit.deployment.export import ExportOptions, export_model
from sigmoid_vit.errors import run
from sigmoid_vit.options import OptionsParser


def main() -> None:
    print(export_model(OptionsParser(__doc__, ExportOptions).parse()))


if __name__ == "__main__":
    run(main)
