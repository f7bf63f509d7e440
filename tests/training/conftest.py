"""What the tests of training share: a store in which every digit is edited."""

import pytest
from helpers.step2 import edit_every_digit


@pytest.fixture(scope="session")
def ink_store(tmp_path_factory):
    """The store's path, as text; a test that writes into it takes a copy."""
    return edit_every_digit(tmp_path_factory.mktemp("edits") / "edits.sqlite")
