"""What the tests of the notebook share: a place like a clone in which Step 1 and Step 2 were trained."""

import pytest
from helpers.runs import ROOT
from helpers.step2 import prepared

from sigmoid_vit.annotations.import_options import ImportOptions
from sigmoid_vit.annotations.importing import import_edits


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder as a clone of the repository is after Step 1 and Step 2: src/ and result/{first,second}."""
    place = tmp_path_factory.mktemp("clone")
    (place / "src").symlink_to(ROOT / "src")
    (place / "result.ipynb").symlink_to(ROOT / "result.ipynb")
    result, store = place / "result", str(place / "edits.sqlite")
    prepared(result, "--runs_name", "first", "--epochs", "3").fit()
    first = str(result / "first")
    import_edits(ImportOptions(["ink"], run=first, edits=store, mask_edit="both", count=40))
    options = ["--first_step", first, "--edits", store, "--epochs", "4"]
    prepared(result, "--runs_name", "second", *options).fit()
    return place
