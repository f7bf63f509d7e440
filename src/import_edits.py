"""Make edits of people's attention: masks, boxes, heat maps or gaze. An image without a mask gets no edit."""

from sigmoid_vit.annotations.import_options import ImportOptions
from sigmoid_vit.annotations.importing import import_edits
from sigmoid_vit.errors import run
from sigmoid_vit.options import OptionsParser


def main() -> None:
    print(import_edits(OptionsParser(__doc__, ImportOptions).parse()).text())


if __name__ == "__main__":
    run(main)
