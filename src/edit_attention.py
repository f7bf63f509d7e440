"""The attention editor: repaint in the browser where the network looks, and see the decision change."""

from sigmoid_vit.editor import EditorOptions, serve
from sigmoid_vit.errors import Parser, run


def main() -> None:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--run", required=True, help="the run's folder, result/<RUNS_NAME>")
    add("--edits", default="edits.sqlite", help="the store of the edits (default: edits.sqlite)")
    add("--split", default="train", help="train, val or a test part (default: train)")
    add("--masks", metavar="DIR", help="a mask per image, for the order by attention outside the mask")
    add("--dataset_path", help="where the data set is now, if it was moved")
    add("--author", default="", help="of the edits, unless the page names another (default: login name)")
    add("--port", type=int, default=8765, help="0: any free one (default: 8765)")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this computer only)")
    name = "a further name of the server as the browser's address bar shows it, such as example.org:80"
    add("--allow_host", action="append", default=[], metavar="NAME[:PORT]", help=name)
    add("--root_path", default="", help="path that a proxy in front adds and does not strip")
    add("--no_browser", action="store_true", help="do not open a browser")
    serve(EditorOptions(**vars(parser.parse_args())))


if __name__ == "__main__":
    run(main)
