"""Votes on batches: who is asked what, what is decided, when nothing can be decided any more."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from prsm.node.inference.verify import Ballot, batch_root, input_root, side_root
from prsm.protocol import merkle
from prsm.protocol.receipts import rows_root
from prsm.protocol.tensors import Dtype, Tensor, TensorHead

P, R, T = b"p" * 32, b"r" * 32, b"t" * 32
ONE, TWO, THREE = b"1" * 32, b"2" * 32, b"3" * 32


def ballot(batches: int = 2, *, workers: tuple[bytes, ...] = (P, R, T)) -> Ballot:
    return Ballot(workers, batches)


def test_two_equal_roots_decide_and_the_third_rests() -> None:
    votes = ballot()
    assert votes.wanted() == {P, R}
    for worker in (P, R):
        for batch in (0, 1):
            votes.add(worker, batch, ONE)
    assert [votes.decided(0), votes.decided(1)] == [ONE, ONE]
    assert votes.wanted() == frozenset()
    assert votes.payable() == (P, R)
    assert votes.minority() == frozenset()


def test_third_is_asked_for_the_disputed_batch_alone() -> None:
    votes = ballot()
    votes.add(P, 0, ONE)
    votes.add(R, 0, TWO)
    assert votes.decided(0) is None
    assert (votes.wants(T, 0), votes.wants(T, 1)) == (True, False)
    votes.add(T, 0, TWO)
    assert votes.decided(0) == TWO
    assert votes.minority() == {P}
    assert votes.wants(P, 1)  # its receipt stays whole: it is the evidence
    for worker in (P, R):
        votes.add(worker, 1, ONE)
    assert votes.payable() == (P, R, T)
    assert [dispute.batch for dispute in votes.disputes()] == [0]


def test_third_redoes_everything_for_a_lost_worker() -> None:
    votes = ballot()
    votes.add(P, 0, ONE)
    votes.add(R, 0, ONE)
    votes.lose(P, "unreachable")
    assert [votes.wants(T, batch) for batch in (0, 1)] == [True, True]
    assert not votes.wants(P, 1)
    assert votes.payable() is None  # one receipt alone settles nothing
    for batch in (0, 1):
        votes.add(T, batch, ONE)
    votes.add(R, 1, ONE)
    assert votes.payable() == (R, T)


def test_hope_ends_when_too_few_are_left() -> None:
    votes = ballot(1)
    votes.lose(P, "gone")
    assert votes.hopeless() is None
    votes.lose(R, "gone")
    assert votes.hopeless() == 0
    votes = ballot(1)
    for worker, root in ((P, ONE), (R, TWO), (T, THREE)):
        assert votes.hopeless() is None
        votes.add(worker, 0, root)
    assert votes.hopeless() == 0
    pair = ballot(1, workers=(P, R))
    pair.add(P, 0, ONE)
    assert pair.hopeless() is None
    pair.add(R, 0, TWO)
    assert pair.hopeless() == 0


def test_opinion_of_a_lost_worker_still_counts_for_the_bytes() -> None:
    votes = ballot(1)
    votes.add(P, 0, ONE)
    votes.lose(P, "gone")
    votes.add(R, 0, ONE)
    assert votes.decided(0) == ONE
    assert votes.hopeless() is None
    assert votes.wants(T, 0)


def test_first_opinion_of_a_worker_stays() -> None:
    votes = ballot(1)
    votes.add(P, 0, ONE)
    votes.add(P, 0, TWO)
    assert votes.opinion(P, 0) == ONE


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), max_size=20))
def test_decisions_meet_their_dumb_twin(events: list[tuple[int, int, bool]]) -> None:
    """A decision is the root two distinct workers gave; one that is wanted can always vote."""
    workers = (P, R, T)
    votes = ballot(1)
    given_roots: dict[bytes, bytes] = {}
    lost: set[bytes] = set()
    for who, root, leaves in events:
        worker = workers[who]
        if leaves:
            votes.lose(worker, "gone")
            lost.add(worker)
        elif worker not in lost and worker not in given_roots:
            given_roots[worker] = bytes([root]) * 32
            votes.add(worker, 0, given_roots[worker])
    best = Counter(given_roots.values()).most_common(1)
    right = best[0][0] if best and best[0][1] >= 2 else None
    assert votes.decided(0) == right
    to_come = set(workers) - lost - set(given_roots)
    can_be = right is not None or bool(given_roots and to_come) or len(to_come) >= 2
    assert (votes.hopeless() is None) == can_be
    assert votes.wanted() <= to_come
    # Nothing decided, and hope: somebody is asked.
    assert right is not None or not can_be or votes.wanted()


def test_roots_chain_from_stage_to_stage() -> None:
    """The one output of a stage has the root that the next takes of its cut tensor alone."""
    cut = Tensor(TensorHead("cut", Dtype.U8, (2, 3)), b"abcdef")
    mask = Tensor(TensorHead("mask", Dtype.U8, (2, 1)), b"xy")
    assert batch_root((cut,)) == rows_root(cut.head, cut.data)
    assert input_root((cut, mask), stage=1) == batch_root((cut,))
    roots = [rows_root(t.head, t.data) for t in (cut, mask)]
    assert input_root((cut, mask), stage=0) == merkle.root_of_leaves(roots)


def test_name_of_a_tensor_is_no_part_of_its_root() -> None:
    one = Tensor(TensorHead("cut", Dtype.U8, (1, 2)), b"ab")
    other = Tensor(TensorHead("y", Dtype.U8, (1, 2)), b"ab")
    assert batch_root((one,)) == batch_root((other,))


def test_side_root_is_over_what_stands_beside_the_cut_tensor() -> None:
    cut, mask, place = (
        Tensor(TensorHead(name, Dtype.U8, (2, 3)), bytes([number]) * 6)
        for number, name in enumerate(("cut", "mask", "place"))
    )
    assert side_root((cut, mask, place), stage=1) == batch_root((mask, place))
    assert side_root((cut,), stage=2) == side_root((cut, mask), stage=0) == merkle.EMPTY_ROOT


def test_one_of_one_decides_alone_and_is_stranded_when_lost() -> None:
    votes = Ballot((P,), 3, needed=1, first=5, is_open_ended=True)
    assert votes.wanted() == {P}
    votes.add(P, 5, b"x")
    assert votes.decided(5) == b"x"
    assert votes.undecided() == (6, 7)
    votes.lose(P, "gone")
    assert votes.stranded() == (6, 7)
    assert votes.payable() is None
    for batch in (6, 7):
        votes.leave(batch)
    assert votes.hopeless() is None


def test_open_ended_unit_is_paid_for_what_was_decided() -> None:
    votes = Ballot((P,), 2, needed=1, is_open_ended=True)
    votes.add(P, 0, b"x")
    assert votes.payable() == (P,)
    strict = Ballot((P,), 2, needed=1)
    strict.add(P, 0, b"x")
    assert strict.payable() is None


def test_three_of_five_ask_the_next_only_where_the_first_differ() -> None:
    workers = tuple(bytes([i]) * 32 for i in range(5))
    votes = Ballot(workers, 2, needed=3)
    assert votes.wanted() == set(workers[:3])
    for worker, root in zip(workers[:3], (b"x", b"y", b"x"), strict=True):
        votes.add(worker, 0, root)
    assert [votes.wants(worker, 0) for worker in workers] == [False, False, False, True, False]
    votes.add(workers[3], 0, b"z")
    assert votes.wants(workers[4], 0)
    votes.add(workers[4], 0, b"x")
    assert votes.decided(0) == b"x"
    assert votes.minority() == {workers[1], workers[3]}


def test_slow_worker_makes_the_next_one_wanted_for_that_batch() -> None:
    votes = Ballot((P, R, T), 2)
    votes.add(P, 0, b"x")
    assert not votes.wants(T, 0)
    votes.slow.add((R, 0))
    assert votes.wants(T, 0)
    assert not votes.wants(T, 1)
    votes.add(T, 0, b"x")
    assert votes.decided(0) == b"x"
    assert not votes.wants(R, 0)
    assert votes.wants(R, 1)
