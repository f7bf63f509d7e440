"""What result.ipynb calls: `open_report`, and on the report it returns a method for each picture."""

from sigmoid_vit.notebook.report import Report, open_report

__all__ = ["Report", "open_report"]
