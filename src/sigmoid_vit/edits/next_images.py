"""Which images to edit next: propagation writes the list beside the store, the editor's queue reads it."""

import json
import os
from pathlib import Path

from sigmoid_vit.errors import UserError

EDIT_NEXT = "edit next"  # the key of the list in the report


def report_file(store: str | Path) -> Path:
    """Where the report of the last propagation lies, beside its store."""
    return Path(os.path.realpath(store) + ".propagation.json")


def next_images(store: str | Path) -> list[str]:
    """The ids of the images whose edits would teach most, best first; none where nothing was propagated yet.

    Raises:
        UserError: the report is there and cannot be read.
    """
    file = report_file(store)
    try:
        return [str(image_id) for image_id in json.loads(file.read_text("utf-8"))[EDIT_NEXT]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} cannot be read: {error}; remove it, Step 2 with PROPAGATE=true writes it anew"
        ) from error
