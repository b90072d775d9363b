"""What a network is judged by is read at one height."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from prsm.node.rpc.methods.chain import ChainStatus
from prsm.protocol.genesis import Genesis
from prsm.testnet import invariants
from prsm.testnet.launch import Network


@dataclass(frozen=True)
class FakeStatus:
    height: int

    @property
    def head_hash(self) -> str:
        return f"head {self.height}"


def test_block_that_comes_while_balances_are_read_is_no_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Read again, until nothing came in between."""
    node, compared = type("FakeNode", (), {"is_running": lambda _self: True})(), list[int]()
    heights = iter((7, 8))  # a block of evidence follows the first look

    def compare(
        nodes: list[object], status: list[FakeStatus], genesis: object
    ) -> invariants.Agreement:
        assert nodes == [node]
        assert genesis is None
        compared.append(status[0].height)
        return invariants.Agreement(status[0].height, 1, "root", True, status[0].height == 8, {})

    monkeypatch.setattr(invariants, "_meet", lambda _nodes: [FakeStatus(next(heights))])
    monkeypatch.setattr(invariants, "_status", lambda _node: cast("ChainStatus", FakeStatus(8)))
    monkeypatch.setattr(invariants, "_compare", compare)
    found = invariants.check(Network(Path(), [node]), cast("Genesis", None))
    assert compared == [7, 8]
    assert found.supply_conserved
