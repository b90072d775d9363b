"""A short flood of real daemons: nobody dies, whoever floods is banned, memory stays."""

import io

import pytest

from prsm.testnet import flood
from prsm.testnet.report import Screen

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.long]


def test_flood_harms_nobody_but_the_flooders() -> None:
    """Eight seconds of each; how much slower honest writes are is for a machine that is free."""
    document = flood.measure(flood.Options(seconds=8.0), Screen(io.StringIO(), quiet=True))
    assert [broken for broken in flood.failures(document) if "p99" not in broken] == []
    identities, blocks = document["identities"], document["blocks"]
    assert isinstance(identities, int)
    assert identities >= 20
    assert isinstance(blocks, int)
    assert blocks > 20
