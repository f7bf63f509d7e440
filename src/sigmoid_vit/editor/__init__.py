"""The attention editor: a page in the browser where people repaint where the network looks.

    serve(EditorOptions(run="result/demo"))  # what src/edit_attention.py does
    show("result/demo")                      # in a notebook

`session` opens a run, a part of its data and a store; `predictor` answers strokes, `predictions` all images;
`split_edits` saves; `reading` and `changing` are the server's addresses, `security` says who may use them.
"""

from sigmoid_vit.editor.server import serve, show
from sigmoid_vit.editor.session import EditorOptions

__all__ = ["EditorOptions", "serve", "show"]
