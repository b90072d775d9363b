"""Puts and gets at five nodes beside Kubo, while nodes and Kubo die; a minute.

Needs `python scripts/ipfs_peers.py` once. Everything is on loopback.
"""

import pytest

from prsm.testnet.fetches import main
from scripts.ipfs_peers import CACHE, RECIPES
from tests.tools.ipfs_peers import needs

pytestmark = [*needs("kubo"), pytest.mark.long, pytest.mark.slow]


def test_files_come_while_nodes_and_the_ipfs_daemon_are_killed() -> None:
    """The command says whether 99.9 % did, and prints the figures."""
    kubo = (str(CACHE / "kubo" / "bin" / "python"), str(RECIPES / "kubo" / "peer.py"))
    assert main(("churn", "--operations", "1000", "--every", "10", "--ipfs", *kubo)) == 0
