"""What is kept of a batch has the roots of the book, however the steps came."""

import pytest

from prsm.node.inference.generate.book import Book, leaves
from prsm.node.inference.generate.tape import Statement, Tape, read_statement
from prsm.protocol import merkle
from prsm.protocol.errors import WireError
from prsm.protocol.generating import GREEDY
from prsm.protocol.tensors import Dtype, Tensor, TensorHead

ROWS = (5, 4, 4)  # of the batches


def carried(first: int, count: int) -> Tensor:
    head = TensorHead("cut1", Dtype.U8, (1, count, 3))
    return Tensor(head, bytes(3 * first + place for place in range(3 * count)))


def made(first: int, sizes: tuple[int, ...], *, is_last: bool) -> Tensor:
    if is_last:
        tokens = bytes((first + place) % 250 for place in range(8 * len(sizes)))
        return Tensor(TensorHead("logits", Dtype.I64, (len(sizes),)), tokens)
    return Tensor(
        TensorHead("cut2", Dtype.U8, (1, sum(sizes), 2)),
        bytes(2 * first + place for place in range(2 * sum(sizes))),
    )


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize(
    "calls", [((5,), (1, 1, 1, 1), (1, 1, 1, 1)), ((2, 3, 4), (4,)), ((3,), (2, 1), (3, 1, 1, 2))]
)
def test_what_is_taken_off_has_the_roots_of_the_book(
    calls: tuple[tuple[int, ...], ...], is_last: bool
) -> None:
    sampling = GREEDY if is_last else None
    book, tape = Book(ROWS, sampling), Tape(sampling)
    for sizes in calls:
        inputs = carried(book.position, sum(sizes))
        outputs = made(book.position, sizes, is_last=is_last)
        tape.add(book.position, sizes, inputs, outputs)
        book.add(sizes, inputs, outputs, is_last=is_last)
    rest = book.rest()
    for roots in (*book.done(), *(() if rest is None else (rest,))):
        taped = tape.take(book.start_of(roots.index), roots.rows)
        before, said = taped.inputs
        assert merkle.root_of_leaves(leaves(before)) == roots.input_root
        assert merkle.root([said.data]) == roots.side_root
        after = merkle.root_of_leaves(leaves(taped.outputs[0], is_flat=is_last))
        assert after == roots.output_root
        assert read_statement(said).chosen() == sampling
        assert read_statement(said).start == book.start_of(roots.index)


def test_what_is_no_statement_is_refused() -> None:
    with pytest.raises(WireError):
        read_statement(carried(0, 1))
    with pytest.raises(WireError):
        read_statement(Tensor(TensorHead("steps", Dtype.U8, (2,)), b"\x93\x00"))
    with pytest.raises(WireError):
        Statement(0, (1,), b"?").chosen()
