"""Which images Step 2 trains on: being edited never becomes the cue."""

import numpy as np
import pytest
from helpers.runs import settings
from hypothesis import given
from hypothesis import strategies as st

from sigmoid_vit.training.plan import being_edited_is_a_cue, make_plan

LABELS = np.repeat([0, 1, 2], 10)
SPREAD, ONE_CLASS = np.arange(30) % 2 == 0, LABELS == 1  # which images are edited


@pytest.fixture
def planned(tmp_path):
    """Plan with settings given as options: planned([option, ...], labels, has_edit, ...)."""
    return lambda options, *about: make_plan(settings(tmp_path, *options), *about)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=40))
def test_the_cue_is_a_share(images):
    labels, has_edit = (np.array(x) for x in zip(*images, strict=True))
    assert 0 <= being_edited_is_a_cue(labels, has_edit) <= 1 + 1e-9
    assert being_edited_is_a_cue(labels, np.ones(len(labels), dtype=bool)) == 0


def test_the_cue_of_edits_spread_over_the_classes_and_of_one_class():
    assert being_edited_is_a_cue(LABELS, SPREAD) == pytest.approx(0)
    assert being_edited_is_a_cue(LABELS, ONE_CLASS) == pytest.approx(1)


def test_images_that_a_person_left_unchanged_are_trained_on_with_the_edited_ones(planned):
    unchanged = np.arange(30) % 4 == 1
    plan = planned([], LABELS, SPREAD, None, None, unchanged)
    assert plan.images.tolist() == np.flatnonzero(SPREAD | unchanged).tolist()
    assert plan.inject
    assert (
        "15 edited images and the 8 looked at and left unchanged; 7 without an edit are dropped" in plan.says
    )
    of_others = planned([], LABELS, ONE_CLASS, None, None, ~ONE_CLASS)
    assert len(of_others.images) == 30
    assert not of_others.inject  # being edited would give the class away


def test_edits_spread_over_the_classes_are_injected(planned):
    plan = planned([], LABELS, SPREAD)
    assert plan.inject
    assert len(plan.images) == 15
    kept = planned(["--unedited", "train"], LABELS, SPREAD)
    assert kept.inject
    assert len(kept.images) == 30
    everybody = planned([], LABELS, np.ones(30, dtype=bool))
    assert everybody.inject
    assert len(everybody.images) == 30
    assert not planned(["--hitl", "paper"], LABELS, SPREAD).inject


def test_edits_of_one_class_are_not_injected(planned):
    safe = planned([], LABELS, ONE_CLASS)  # dropping would lose two classes
    assert not safe.inject
    assert len(safe.images) == 30
    assert "goes with the class" in safe.says
    forced = planned(["--inject", "true"], LABELS, ONE_CLASS)
    assert forced.inject
    assert "WARNING" in forced.says


def test_a_few_images_of_one_class_without_an_edit_are_left_out(planned):
    """24 digits of one class, trained on without injection, taught "not injected = that class"."""
    labels = np.repeat(np.arange(10), 117)
    has_edit = np.ones(len(labels), dtype=bool)
    has_edit[:24] = False
    assert being_edited_is_a_cue(labels, has_edit) < 0.5  # too few for the association over all images
    plan = planned(["--unedited", "train"], labels, has_edit)
    assert plan.inject
    assert np.array_equal(plan.images, np.flatnonzero(has_edit))
    assert "24 without an edit are left out" in plan.says
    forced = planned(["--unedited", "train", "--inject", "true"], labels, has_edit)
    assert forced.inject
    assert len(forced.images) == len(labels)
    assert "WARNING" in forced.says
    two = np.repeat([0, 1], [60, 40])  # of two classes as well
    assert len(planned(["--unedited", "train"], two, np.arange(100) >= 15).images) == 85


def test_where_most_of_a_class_is_unedited_nothing_is_injected(planned):
    labels = np.repeat(np.arange(10), 117)
    most = (np.arange(len(labels)) < 24) | (labels > 0)
    safe = planned(["--unedited", "train"], labels, most)
    assert not safe.inject
    assert len(safe.images) == len(labels)
    assert "goes with the class" in safe.says


@pytest.mark.parametrize("scattered", [np.arange(1170) % 50 > 0, np.arange(1170) > 0, np.arange(1170) < 2])
def test_a_handful_of_images_is_no_cue(planned, scattered):
    """It is always spread unevenly over the classes."""
    kept = planned(["--unedited", "train"], np.repeat(np.arange(10), 117), scattered)
    assert kept.inject
    assert len(kept.images) == 1170


def test_a_class_that_nobody_edited_is_not_given_away_by_injection(planned):
    """Also where the edits are too few to go with the class: none of its images would ever be injected."""
    labels, has_edit = np.repeat(np.arange(10), 117), np.zeros(1170, dtype=bool)
    has_edit[::40] = True
    assert planned(["--unedited", "train"], labels, has_edit).inject
    has_edit[labels == 3] = False
    plan = planned([], labels, has_edit)
    assert not plan.inject
    assert len(plan.images) == 1170
    assert "classes without an edited image: 1" in plan.says


def test_propagated_edits_do_not_hide_the_class_that_nobody_edited(planned):
    all_edited, by_people = np.ones(30, dtype=bool), LABELS > 0
    for options in ([], ["--unedited", "train"]):
        plan = planned(options, LABELS, all_edited, all_edited, by_people)
        assert not plan.inject
        assert len(plan.images) == 30
        assert "goes with the class" in plan.says
    few = np.arange(30) % 5 == 0  # of every class, as they should be
    assert planned([], LABELS, all_edited, all_edited, few).inject


@pytest.mark.parametrize("inject", ["auto", "true"])
def test_edits_that_erase_nothing_inject_nothing(planned, inject):
    nothing = np.zeros(30, dtype=bool)
    plan = planned(["--inject", inject], LABELS, ~nothing, nothing)
    assert not plan.inject
    assert "nothing is injected" in plan.says
    assert "WARNING" not in plan.says
