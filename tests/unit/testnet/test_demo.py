"""The demo's own arithmetic and its options; the demo itself runs as a whole elsewhere."""

import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest

from prsm.protocol.errors import LocalError
from prsm.testnet.demo import Options, check_options, nearest
from prsm.testnet.reference import Whole, differing_rows


@pytest.mark.parametrize(
    "bad",
    [
        Options(byzantine=2),
        Options(byzantine=-1),
        Options(byzantine_node=1),
        Options(byzantine_node=5),
        Options(rows=0),
        Options(rows=1001),
    ],
)
def test_options_no_demo_can_run_with_are_refused(bad: Options) -> None:
    """With the numbers that would do."""
    with pytest.raises(LocalError) as refused:
        check_options(bad)
    assert "type" in refused.value.hint


@pytest.mark.parametrize("node", [2, 3, 4])
def test_each_worker_may_be_the_liar(node: int) -> None:
    """And none at all."""
    check_options(Options(byzantine_node=node))
    check_options(replace(Options(byzantine_node=node), byzantine=0))


def floats(*rows: Sequence[float]) -> bytes:
    return b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)


def test_nearest_sentence_has_the_smallest_angle() -> None:
    """Length of a vector does not count, a zero vector is near to nothing; the last is asked."""
    data = floats((0, 1), (10, 1), (-1, 0), (0, 0), (1, 0))
    found = nearest(data, ["up", "right", "left", "none", "question"])
    assert [text for _, text in found] == ["right", "up", "none"]
    assert found[0][0] == pytest.approx(0.995, abs=0.001)


def test_differing_rows_are_counted_byte_by_byte() -> None:
    """One bit in one row; rows in another order; an answer of another length differs in all."""
    rows = (b"aaaa", b"bbbb", b"cccc")
    whole = Whole(b"pin", ((0, 1), (2,)), rows)
    assert differing_rows(whole, b"".join(rows)) == []
    assert differing_rows(whole, b"aaaabbbccccc") == [1]
    assert differing_rows(whole, b"bbbbaaaacccc") == [0, 1]
    assert differing_rows(whole, b"aaaabbbbcccc-") == [0, 1, 2]
    assert differing_rows(whole, b"") == [0, 1, 2]
