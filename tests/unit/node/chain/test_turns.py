"""Work in parts: who waits gets a turn between them."""

from collections.abc import Iterator

import trio
import trio.testing

from prsm.node.chain.turns import in_turns


async def test_others_get_their_turns_while_much_is_done() -> None:
    """Two do the same: in whatever order they go, each does its first parts before the rest."""
    seen: list[str] = []

    def parts(name: str) -> Iterator[int]:
        for size in (400, 700, 400, 100, 600):
            seen.append(name)
            yield size

    async def work(name: str) -> None:
        await in_turns(parts(name), each=1_000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, "a")
        nursery.start_soon(work, "b")
    assert sorted(seen[:4]) == ["a", "a", "b", "b"]
    assert len(seen) == 10


async def test_little_work_costs_no_turn() -> None:
    with trio.testing.assert_no_checkpoints():
        await in_turns([400, 500], each=1_000)
