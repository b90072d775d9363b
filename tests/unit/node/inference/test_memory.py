import pytest

from prsm.node.inference import memory
from prsm.protocol.limits import MIB

GIB = 1024 * MIB


def test_weights_beside_a_graph_count_twice_and_the_largest_once_more() -> None:
    alone = memory.needed(MIB)
    assert memory.needed(MIB, [100 * MIB, 300 * MIB]) - alone == (2 * 400 + 300) * MIB


@pytest.mark.parametrize("size", [MIB, 90 * MIB, 255 * MIB])
def test_a_child_is_given_what_it_needs_and_room_but_never_more_than_allowed(size: int) -> None:
    assert memory.needed(size) + GIB <= memory.given(size, [], 64 * GIB)
    assert memory.given(size, [], GIB) == GIB
    assert memory.given_to_prepare(size, 64 * GIB) > size
    assert memory.needed_to_prepare(size) == 0


def test_preparing_a_large_model_needs_its_weights_twice() -> None:
    needed = memory.needed_to_prepare(4 * GIB)
    assert 8 * GIB < needed < memory.given_to_prepare(4 * GIB, 64 * GIB)
    assert memory.in_words(needed) == f"{needed // MIB} MiB"
