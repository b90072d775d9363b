"""Known answers among a job's own batches: hidden, used once, compared, taken out again."""

from collections.abc import Callable

import pytest

from prsm.node.inference.batches import Batch
from prsm.node.inference.canaries import BYTES_MAX, KEPT_MAX, Canaries, Canary
from tests.tools.work import MODEL, given_rows, tensor

OTHER = b"\x01\x55\x12\x20" + b"?" * 32
CLASS = b"c" * 32


def canary(mark: int = 1, *, model: bytes = MODEL) -> Canary:
    return Canary(model, given_rows(1), (tensor("y", [bytes([mark] * 5)]),), CLASS)


def batches(count: int = 3) -> list[Batch]:
    return [(tensor("x", [bytes([place] * 5)]),) for place in range(count)]


def thrown(*numbers: int) -> Callable[[int], int]:
    found = iter(numbers)
    return lambda _sides: next(found)


@pytest.mark.parametrize("place", range(4))
def test_a_canary_is_hidden_anywhere_and_taken_out_again(place: int) -> None:
    known = Canaries(percent=50, dice=thrown(49, 0, place))
    known.learn(canary())
    salted = known.salt(MODEL, batches())
    assert salted.batches[place] == given_rows(1)
    assert salted.own(salted.batches) == tuple(batches())


def test_a_canary_is_used_once_and_for_its_model_alone() -> None:
    known = Canaries(percent=100, dice=lambda _sides: 0)
    known.learn(canary(model=OTHER))
    assert known.salt(MODEL, batches()).place is None
    known.learn(canary())
    known.learn(canary())
    assert known.salt(MODEL, batches()).place == 0
    assert known.salt(MODEL, batches()).batches == tuple(batches())


def test_another_answer_of_the_same_class_is_caught() -> None:
    known = Canaries(percent=100, dice=lambda _sides: 0)
    known.learn(canary())
    salted = known.salt(MODEL, batches(1))
    right, wrong = canary(1).outputs, canary(2).outputs
    own = batches(1)[0]
    assert not salted.is_caught([right, own], CLASS)
    assert salted.is_caught([wrong, own], CLASS)
    assert not salted.is_caught([wrong, own], b"d" * 32)  # bits are promised in a class only
    assert not known.salt(MODEL, batches(1)).is_caught([wrong], CLASS)


def test_jobs_are_salted_by_their_share_and_memory_is_bounded() -> None:
    known = Canaries(percent=10, dice=thrown(10))
    for mark in range(KEPT_MAX + 5):
        known.learn(canary(mark))
    huge = (tensor("x", [bytes(BYTES_MAX)]),)
    known.learn(Canary(MODEL, huge, huge, CLASS))
    assert len(known._known) == KEPT_MAX
    assert known.salt(MODEL, batches()).place is None
