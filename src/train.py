"""Train a network on a data set; run_vit_training.sh calls it. --help lists the settings."""

from sigmoid_vit.errors import run
from sigmoid_vit.runs.command_line import SettingsParser
from sigmoid_vit.training.trainer import train


def main() -> None:
    train(*SettingsParser(__doc__).parse_seeds())


if __name__ == "__main__":
    run(main)
