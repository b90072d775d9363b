"""Steps into batches: both sides come to the same roots, however the steps came in messages."""

import random
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.inference.generate.book import STEPS_PER_BATCH, Book, batch_plan, leaves
from prsm.protocol import merkle
from prsm.protocol.codec import encode
from prsm.protocol.errors import WireError
from prsm.protocol.generating import GREEDY, Sampling
from prsm.protocol.limits import WORK_BATCHES_MAX
from prsm.protocol.receipts import rows_root
from prsm.protocol.tensors import Dtype, Tensor, TensorHead


def ids(first: int, count: int) -> Tensor:
    data = struct.pack(f"<{count}q", *range(first, first + count))
    return Tensor(TensorHead("ids", Dtype.I64, (1, count)), data)


def cut(first: int, count: int) -> Tensor:
    values = [float(place) for place in range(2 * first, 2 * (first + count))]
    return Tensor(
        TensorHead("cut", Dtype.F32, (1, count, 2)), struct.pack(f"<{2 * count}f", *values)
    )


def write(book: Book, messages: Sequence[Sequence[int]]) -> list[tuple[int, bytes, bytes]]:
    """Steps message by message, as a worker notes them; what was fed."""
    fed: list[tuple[int, bytes, bytes]] = []
    for sizes in messages:
        here, count = book.position, sum(sizes)
        fed += book.fed(sizes, ids(here, count))
        book.add(sizes, ids(here, count), cut(here, count), is_last=False)
    return fed


@given(st.integers(1, 3000), st.integers(1, 70_000))
def test_plan_covers_every_position_that_goes_through(prompt: int, tokens: int) -> None:
    plan = batch_plan(prompt, tokens)
    assert plan[0] == prompt
    assert sum(plan) == prompt + tokens - 1
    assert len(plan) <= WORK_BATCHES_MAX
    assert all(rows >= STEPS_PER_BATCH for rows in plan[1:-1])


def test_roots_of_a_batch_are_those_of_its_rows_where_it_starts_and_its_steps() -> None:
    book = Book(batch_plan(5, 20), None)
    write(book, [(2, 3), *[(1,)] * 16])
    first, second = book.done()
    assert (first.index, first.rows, second.index, second.rows) == (0, 5, 1, 16)
    before, after = ids(0, 5), cut(5, 16)
    flat = TensorHead("ids", Dtype.I64, (5,))
    assert first.input_root == rows_root(flat, before.data)
    assert second.output_root == rows_root(TensorHead("cut", Dtype.F32, (16, 2)), after.data)
    assert first.side_root == merkle.root([encode((0, (2, 3), None))])
    assert second.side_root == merkle.root([encode((5, (1,) * 16, None))])


def test_last_stage_has_a_row_for_each_step() -> None:
    book = Book((5, 3), GREEDY)
    chosen = Tensor(TensorHead("logits", Dtype.I64, (2,)), struct.pack("<2q", 7, 8))
    book.add((2, 3), cut(0, 5), chosen, is_last=True)
    [roots] = book.done()
    assert roots.rows == 5
    assert roots.output_root == rows_root(chosen.head, chosen.data)
    assert roots.side_root == merkle.root([encode((0, (2, 3), encode(GREEDY)))])


def test_other_sampling_is_another_side_root() -> None:
    books = [Book((2,), Sampling(0, 0, 1000, seed)) for seed in (1, 2)]
    chosen = Tensor(TensorHead("logits", Dtype.I64, (1,)), bytes(8))
    for book in books:
        book.add((2,), cut(0, 2), chosen, is_last=True)
    assert books[0].done()[0].side_root != books[1].done()[0].side_root


@given(st.integers(1, 9), st.integers(1, 60), st.integers(0, 59), st.randoms())
def test_messages_of_any_length_come_to_the_same_batches_and_feeds(
    prompt: int, tokens: int, done: int, dice: random.Random
) -> None:
    """A worker that hears a replay in few messages signs what one signs that heard each step."""
    plan = batch_plan(prompt, tokens)
    steps = [prompt] + [1] * min(done, tokens - 1)
    one_by_one, joined = Book(plan, None), Book(plan, None)
    fed = write(one_by_one, [(size,) for size in steps])
    messages: list[list[int]] = [[]]
    for size in steps:
        if messages[-1] and dice.getrandbits(1):
            messages.append([])
        messages[-1].append(size)
    assert write(joined, messages) == fed
    assert joined.done() == one_by_one.done()
    assert joined.rest() == one_by_one.rest()
    assert [(b.index, b.input_root, b.side_root) for b in joined.done()] == fed
    rest = joined.rest()
    assert sum(b.rows for b in joined.done()) + (rest.rows if rest else 0) == sum(steps)


def test_step_over_the_end_of_a_batch_is_refused_and_not_noted() -> None:
    book = Book((5, 3), None)
    for sizes in ((6,), (5, 4), (5, 3, 1)):
        with pytest.raises(WireError, match="spans batches"):
            book.fed(sizes, ids(0, sum(sizes)))
    assert book.position == 0


def test_history_is_part_of_no_batch() -> None:
    """Accounting begins with the first batch after it; the one it ends in is not counted."""
    book = Book((5, 3, 3), None)
    book.skip(6)
    assert write(book, [(1,), (1,)]) == []
    assert (book.done(), book.rest()) == ((), None)
    [(index, _, _)] = write(book, [(1,)] * 3)
    assert index == 2
    assert [roots.index for roots in book.done()] == [2]


def test_leaves_of_an_empty_tensor_are_none() -> None:
    assert leaves(ids(0, 0)) == []


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.data())
def test_book_until_a_position_is_the_one_that_went_no_further(
    counts: list[int], data: st.DataObject
) -> None:
    messages = [(1,) * count for count in counts]
    kept = data.draw(st.integers(0, len(messages)))
    book, short = Book((3, 16, 16, 16), None), Book((3, 16, 16, 16), None)
    write(book, messages)
    write(short, messages[:kept])
    all_of_it = book.done(), book.rest()
    back = book.until(short.position)
    assert (back.done(), back.rest(), back.missing) == (short.done(), short.rest(), short.missing)
    assert (book.done(), book.rest()) == all_of_it
