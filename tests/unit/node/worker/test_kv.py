"""Caches in a child: explicit positions, quotas, sessions apart; and how a token is chosen."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.worker import session
from prsm.node.worker.kv import Caches, choose, draw
from prsm.node.worker.pipe import Array
from prsm.node.worker.recipes.decoder import Config, build_decoder
from prsm.protocol.generating import GREEDY, Sampling, kv_shape
from prsm.protocol.messages.pipe import Cancelled, InputMismatch
from prsm.protocol.messages.steps import PositionMismatch, QuotaFull, Step
from prsm.protocol.tensors import Dtype, TensorHead

PROMPT = (3, 141, 59, 26, 53)
MODEL = session.load(
    build_decoder(Config(layers=2, width=64, heads=2, positions=64)).SerializeToString()
)
SHAPE = kv_shape(MODEL.inputs, MODEL.outputs)
QUOTA = 64 * SHAPE.bytes_per_position


def compute(feeds: Mapping[str, Array]) -> dict[str, Array]:
    session.check_inputs(MODEL, feeds)
    return session.compute(MODEL, feeds, session.run_options())


def step(
    caches: Caches,
    start: int,
    tokens: Sequence[int],
    *,
    sizes: Sequence[int] = (),
    number: int = 1,
    quota: int = QUOTA,
    sampling: Sampling | None = GREEDY,
) -> list[int]:
    ids = np.array([tokens], dtype=np.int64)
    head = TensorHead("ids", Dtype.I64, ids.shape)
    call = Step(number, start, tuple(sizes) or (len(tokens),), quota, sampling, head)
    name, made = caches.step(call, ids, compute)
    assert name == "logits"
    return [int(token) for token in made]


def tell(
    caches: Caches, count: int, *, number: int = 1, prompt: Sequence[int] = PROMPT
) -> list[int]:
    answer = step(caches, 0, prompt, number=number)
    while len(answer) < count:
        answer += step(caches, len(prompt) + len(answer) - 1, answer[-1:], number=number)
    return answer


def test_steps_with_a_cache_choose_what_the_whole_sequence_chooses() -> None:
    """The dumb twin: every token from all tokens before it, without a cache."""
    answer = tell(Caches(SHAPE), 12)
    for place in range(len(answer)):
        [token] = step(Caches(SHAPE), 0, [*PROMPT, *answer[:place]])
        assert token == answer[place]


def test_replay_of_the_same_steps_in_one_call_chooses_the_same() -> None:
    caches = Caches(SHAPE)
    answer = tell(caches, 12)
    sizes = (len(PROMPT), *(1 for _ in answer[1:]))
    assert step(caches, 0, [*PROMPT, *answer[:-1]], sizes=sizes, number=2) == answer
    assert step(caches, 16, answer[-1:], number=2) == step(caches, 16, answer[-1:])


def test_sessions_in_turn_do_not_touch_each_other() -> None:
    alone = [tell(Caches(SHAPE), 10, prompt=(number, 7, number)) for number in range(4)]
    caches = Caches(SHAPE)
    answers = [step(caches, 0, (number, 7, number), number=number) for number in range(4)]
    for place in range(9):
        for number, answer in enumerate(answers):
            answer.extend(step(caches, 3 + place, answer[-1:], number=number))
    assert answers == alone


@pytest.mark.parametrize("start", [0, 4, 6])
def test_step_that_starts_elsewhere_is_refused_and_changes_nothing(start: int) -> None:
    caches, twin = Caches(SHAPE), Caches(SHAPE)
    first = step(caches, 0, PROMPT)
    step(twin, 0, PROMPT)
    with pytest.raises(PositionMismatch, match=f"position {start}, this session holds 5"):
        step(caches, start, [1])
    assert step(caches, 5, first) == step(twin, 5, first)


def test_dropped_session_holds_nothing() -> None:
    caches = Caches(SHAPE)
    step(caches, 0, PROMPT)
    caches.drop(1)
    caches.drop(1)
    assert caches.position(1) == 0
    with pytest.raises(PositionMismatch, match="holds 0"):
        step(caches, 5, [1])


def test_full_quota_is_refused_before_anything_is_computed() -> None:
    caches = Caches(SHAPE)
    quota = 6 * SHAPE.bytes_per_position
    step(caches, 0, PROMPT, quota=quota)
    step(caches, 5, [1], quota=quota)
    with pytest.raises(QuotaFull, match=f"7 positions take {quota // 6 * 7} bytes"):
        step(caches, 6, [1], quota=quota)
    assert caches.position(1) == 6


def test_failed_step_leaves_the_cache_as_it_was() -> None:
    caches = Caches(SHAPE)
    step(caches, 0, PROMPT)
    with pytest.raises(InputMismatch, match="refuses these inputs"):
        step(caches, 5, [1, 9999], sizes=(1, 1))
    assert caches.position(1) == 5

    def ended(_feeds: Mapping[str, Array]) -> dict[str, Array]:
        raise Cancelled("by its caller")

    ids = np.array([[1]], dtype=np.int64)
    call = Step(1, 5, (1,), QUOTA, GREEDY, TensorHead("ids", Dtype.I64, (1, 1)))
    with pytest.raises(Cancelled):
        caches.step(call, ids, ended)
    assert caches.position(1) == 5


@pytest.mark.parametrize(
    "given",
    [
        np.zeros((1, 2), np.int64),
        np.zeros((2, 1), np.int64),
        np.zeros((1, 1), np.int32),
        np.zeros((1,), np.int64),
    ],
)
def test_tensor_of_another_form_is_refused(given: Array) -> None:
    call = Step(1, 0, (1,), QUOTA, GREEDY, TensorHead("ids", Dtype.I64, (1, 1)))
    with pytest.raises(InputMismatch):
        Caches(SHAPE).step(call, given, compute)


def test_last_stage_must_be_told_how_to_choose() -> None:
    with pytest.raises(InputMismatch, match="how a token is chosen"):
        step(Caches(SHAPE), 0, PROMPT, sampling=None)


def test_ties_go_to_the_lowest_id() -> None:
    logits = np.array([1, 3, 2, 3], np.float32)
    assert choose(logits, GREEDY, 0) == 1
    assert choose(logits, Sampling(1000, 1, 1000, 9), 0) == 1
    # Two equal ones of which a draw takes the first half, then the second.
    chosen = [choose(logits, Sampling(1000, 2, 1000, seed), 0) for seed in range(50)]
    assert chosen == [1 if draw(seed, 0) < 0.5 else 3 for seed in range(50)]


def test_top_p_keeps_the_smallest_set_that_is_enough() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float64)).astype(np.float32)
    kept = {choose(logits, Sampling(1000, 0, 700, seed), 0) for seed in range(200)}
    assert kept == {0, 1}
    kept = {choose(logits, Sampling(1000, 0, 1000, seed), 0) for seed in range(200)}
    assert kept == {0, 1, 2, 3}


def test_draws_are_even() -> None:
    logits = np.log(np.array([0.7, 0.2, 0.1], np.float64)).astype(np.float32)
    counts = [0, 0, 0]
    for place in range(3000):
        counts[choose(logits, Sampling(1000, 0, 1000, 5), place)] += 1
    assert [round(count / 300) for count in counts] == [7, 2, 1]


@given(
    logits=st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=40),
    temperature=st.integers(1, 5000),
    top_k=st.integers(0, 50),
    top_p=st.integers(1, 1000),
    seed=st.integers(0, 2**63 - 1),
)
def test_choice_is_one_of_the_most_likely(
    logits: list[float], temperature: int, top_k: int, top_p: int, seed: int
) -> None:
    array = np.array(logits, np.float32)
    sampling = Sampling(temperature, top_k, top_p, seed)
    token = choose(array, sampling, 3)
    assert token == choose(array, sampling, 3)
    better = int((array > array[token]).sum())
    assert better < (top_k or len(logits))
