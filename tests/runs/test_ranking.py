"""The order in which predictions are shown: most confident errors, surest hits, least sure ones."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sigmoid_vit.runs.ranking import confident_errors, highest_first, least_sure, surest_hits

N = 24
CLASSES = hnp.arrays(np.int64, N, elements=st.integers(0, 3))
UNKNOWN_TOO = hnp.arrays(np.int64, N, elements=st.integers(-1, 3))
CONFIDENCE = hnp.arrays(np.float32, N, elements=st.sampled_from([0.25, 0.5, 0.75, 1.0]))  # many are equal


def test_errors_come_most_confident_first():
    prediction, labels = np.array([0, 1, 2, 1, 0]), np.array([0, 0, 0, 1, 1])
    assert confident_errors(prediction, np.array([0.9, 0.5, 0.8, 0.4, 0.6]), labels).tolist() == [2, 4, 1]


def test_hits_take_turns_over_the_classes():
    labels = np.array([0, 0, 0, 1, 1, 2])
    confidence = np.array([0.9, 0.8, 0.7, 0.5, 0.6, 0.3])
    # the best of each class, the second of each, the third
    assert surest_hits(labels, confidence, labels).tolist() == [0, 4, 5, 1, 3, 2]
    prediction = np.array([1, 0, 0, 1, 1, 2])  # the first is wrong, the next of its class takes its turn
    assert surest_hits(prediction, confidence, labels).tolist() == [1, 4, 5, 2, 3]


def test_the_least_sure_come_first_and_the_unknown_last():
    prediction, confidence = np.array([0, -1, 2, 1]), np.array([0.5, 0.0, 0.3, 0.9])
    assert least_sure(prediction, confidence).tolist() == [2, 0, 3, 1]


def test_of_equals_the_first():
    assert highest_first(np.array([1.0, 2.0, 1.0, 2.0]), np.array([True] * 4)).tolist() == [1, 3, 0, 2]
    assert least_sure(np.zeros(3, int), np.full(3, 0.5)).tolist() == [0, 1, 2]


def test_of_nothing_nothing():
    none = np.zeros(0, int)
    for rank in (confident_errors, surest_hits):
        assert rank(none, np.zeros(0), none).tolist() == []
        right = np.array([0, 1])
        assert rank(right if rank is confident_errors else 1 - right, np.ones(2), right).tolist() == []


@given(UNKNOWN_TOO, CONFIDENCE, CLASSES)
def test_errors_are_the_wrong_predictions_sorted(prediction, confidence, labels):
    wrong = [i for i in range(N) if prediction[i] >= 0 and prediction[i] != labels[i]]
    expected = sorted(wrong, key=lambda i: -confidence[i])  # stable
    assert confident_errors(prediction, confidence, labels).tolist() == expected


@given(UNKNOWN_TOO, CONFIDENCE, CLASSES)
def test_hits_are_the_right_predictions_in_fair_turns(prediction, confidence, labels):
    hits = surest_hits(prediction, confidence, labels).tolist()
    assert sorted(hits) == np.flatnonzero(prediction == labels).tolist()
    turn = {}
    for k, i in enumerate(hits):
        turn[i] = sum(labels[j] == labels[i] for j in hits[:k])  # how many of its class came before
    assert list(turn.values()) == sorted(turn.values())
    for a, b in pairwise(hits):
        if turn[a] == turn[b]:
            assert confidence[a] >= confidence[b]


@given(UNKNOWN_TOO, CONFIDENCE)
def test_all_are_ordered_by_confidence(prediction, confidence):
    order = least_sure(prediction, confidence).tolist()
    assert sorted(order) == list(range(N))
    known = [i for i in order if prediction[i] >= 0]
    assert order[: len(known)] == known
    assert known == sorted(known, key=lambda i: (confidence[i], i))
