"""The attention editor: a page in the browser where people repaint the attention of a network.

    serve(EditorOptions(run="result/demo"))  # what src/edit_attention.py does
    show("result/demo")                      # in a notebook

`server` is the process, and between it and the browser are its `ports`, each `connection`, and how the
`browser` is opened. `session` is what it works with: a run's network (`predictor`) and a part of its data
(`part_images`, `part_predictions`, `part_regions`, `part_edits`, and the `work_queue` made of them). `team`
is several people on one store, and `presence` who of them is there. `app` puts the addresses together:
`api_get`, `api_post`, what they take (`request_fields`), what they give (`responses`), and who may use them
(`security`). `page` is what runs in the browser.
"""

from sigmoid_vit.editor.server import serve, show
from sigmoid_vit.editor.session import EditorOptions

__all__ = ["EditorOptions", "serve", "show"]
