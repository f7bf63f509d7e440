"""The attention editor: repaint in the browser where the network looks, and see the decision change."""

from sigmoid_vit.editor import EditorOptions, serve
from sigmoid_vit.errors import run
from sigmoid_vit.options import OptionsParser


def main() -> None:
    serve(OptionsParser(__doc__, EditorOptions).parse())


if __name__ == "__main__":
    run(main)
