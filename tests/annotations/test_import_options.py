"""A bad request for an import is one sentence, and nothing is written."""

import pytest
from helpers.marked_images import block, save

from sigmoid_vit import UserError
from sigmoid_vit.annotations.import_options import ImportOptions
from sigmoid_vit.annotations.importing import import_edits


@pytest.mark.parametrize(
    "options, message",
    [
        ({"source": ["dreams"]}, "--from is 'dreams'; .*masks, coco, "),
        ({"source": ["masks", "/absent"]}, "there is no folder /absent"),
        ({"source": ["masks", "a", "b"]}, "masks takes the folder"),
        ({"source": ["gaze"]}, "at least one file"),
        ({"source": ["gaze", "/absent.txt"]}, "absent.txt is not a readable file"),
        ({"source": ["gaze_maps", "/absent"]}, "there is no folder /absent"),
        (
            {"source": ["masks"], "dataset": "digits_decoy"},
            "no folder of its own; name the folder",
        ),
        ({"source": ["ink"], "dataset": "folder"}, "reads the masks of digits_decoy"),
        ({"source": ["masks", "{empty}"]}, "no image of train has a mask or map in"),
        ({"grid": "14"}, "--grid is '14'"),
        ({"grid": "0x4"}, "--grid is '0x4'"),
        ({"grid": "4x-4"}, "--grid is '4x-4'"),
        ({"grid": None}, "--grid, such as 14x14, or --run"),
        ({"mask_edit": "all"}, "--mask_edit is 'all'"),
        ({"select": "worst"}, "--select is 'worst'"),
        ({"select": "errors"}, "name its run with --run"),
        ({"object_value": 1.5}, "--object_value is 1.5"),
        ({"covered": float("nan")}, "--covered is nan"),
        ({"fraction": 0.0}, "--fraction is 0.0"),
        ({"count": 0}, "--count is 0"),
        ({"count": 3, "fraction": 0.5}, "give one of them"),
        ({"boxes": True}, "masks has no boxes"),
        ({"author": "propagated"}, "kept for edits that propagation made"),
        ({"split": "holdout"}, "no part 'holdout'"),
        ({"dataset": None}, "--dataset is missing"),
        ({"dataset": "birds"}, "--dataset is 'birds'; it must be one of cifar10"),
        ({"run": "/absent", "grid": None}, "is not a run"),
    ],
)
def test_bad_requests_are_one_sentence_and_write_nothing(cats_and_dogs, tmp_path, options, message):
    save(tmp_path / "masks/cat/a.png", block(0, 8, 0, 12))
    (tmp_path / "empty").mkdir()
    edits = tmp_path / "e.sqlite"
    base = {"dataset": "folder", "dataset_path": str(cats_and_dogs), "grid": "4x4", "edits": str(edits)}
    kind, *paths = options.get("source", ["masks", str(tmp_path / "masks")])
    source = [kind, *(path.format(empty=tmp_path / "empty") for path in paths)]
    with pytest.raises(UserError, match=message) as refused:
        import_edits(ImportOptions(**{**base, **options, "source": source}))
    assert "\n" not in str(refused.value)
    assert not edits.exists()
