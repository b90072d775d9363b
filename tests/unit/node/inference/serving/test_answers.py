"""Answers given before: same key for the same question only, bounded, taken back by worker."""

from hypothesis import given
from hypothesis import strategies as st

from prsm.node.inference.serving.answers import ENTRY_BYTES, Answers, KeptAnswer, answer_key
from prsm.protocol.tensors import Dtype, Tensor, TensorHead


def rows(data: bytes, *, name: str = "x", shape: tuple[int, ...] | None = None) -> Tensor:
    return Tensor(TensorHead(name, Dtype.U8, shape or (1, len(data))), data)


def kept(size: int, worker: bytes = b"w") -> KeptAnswer:
    return KeptAnswer((rows(bytes(size)),), (worker,))


def test_key_is_of_model_bytes_shapes_names_and_opinions() -> None:
    keys = {
        answer_key(b"m", (rows(b"ab"),), opinions=1),
        answer_key(b"n", (rows(b"ab"),), opinions=1),
        answer_key(b"m", (rows(b"ab"),), opinions=2),
        answer_key(b"m", (rows(b"ac"),), opinions=1),
        answer_key(b"m", (rows(b"ab", name="y"),), opinions=1),
        answer_key(b"m", (rows(b"ab", shape=(2, 1)),), opinions=1),
        answer_key(b"m", (rows(b"a"), rows(b"b")), opinions=1),
    }
    assert len(keys) == 7
    assert answer_key(b"m", (rows(b"ab"),), opinions=1) in keys


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 900)), max_size=60))
def test_bytes_never_pass_the_bound_and_are_counted_right(puts: list[tuple[int, int]]) -> None:
    answers = Answers(bytes_max=8 * (ENTRY_BYTES + 600))
    for number, size in puts:
        answers.put(bytes([number]), kept(size))
        held = [answers.get(bytes([each])) for each in range(10)]
        assert answers.size == sum(one.size for one in held if one is not None)
        assert answers.size <= 8 * (ENTRY_BYTES + 600)


def test_least_used_goes_first_and_too_large_a_one_is_not_kept() -> None:
    answers = Answers(bytes_max=8 * (ENTRY_BYTES + 100))
    for number in range(8):
        answers.put(bytes([number]), kept(100))
    assert answers.get(b"\x00") is not None
    answers.put(b"new", kept(100))
    assert answers.get(b"\x01") is None
    assert answers.get(b"\x00") is not None
    answers.put(b"large", kept(200))
    assert answers.get(b"large") is None


def test_what_rests_on_a_worker_is_forgotten() -> None:
    answers = Answers()
    answers.put(b"1", kept(10, b"liar"))
    answers.put(b"2", kept(10, b"honest"))
    assert answers.forget_worker(b"liar") == 1
    assert (answers.get(b"1"), len(answers)) == (None, 1)
    assert (answers.hits, answers.misses) == (0, 1)
