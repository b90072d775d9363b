"""A deal between two daemons: proven round by round, then the file is damaged on the disk."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from prsm.node.rpc.client import Client
from prsm.node.rpc.methods.deals import DealInfo, DealParams, Deals, DealSent, Offered, OfferParams
from prsm.node.rpc.methods.storage import ImportedCar, ImportParams
from prsm.node.rpc.methods.wallet import Keys
from prsm.protocol.genesis import Parameters
from prsm.storage.dag.packing import pack
from prsm.testnet import launch

pytestmark = [pytest.mark.long, pytest.mark.e2e]
SIZE = 3 * 2**20


def wait(client: Client, is_so: Callable[[DealInfo], bool]) -> DealInfo:
    """The only deal a node knows, once it is so."""
    deadline = time.monotonic() + 60
    while True:
        for info in client.call("storage_listDeals", result=Deals).items:
            if is_so(info):
                return info
            assert time.monotonic() < deadline, info
        time.sleep(0.5)  # noqa: TID251 - other processes tell nobody


def test_deal_is_proven_until_the_file_is_damaged_and_then_broken(tmp_path: Path) -> None:
    parameters = Parameters(epoch_ms=1_000, heartbeat_block_ms=200, unbonding_ms=3_600_000)
    rig = launch.Rig(models=False, parameters=parameters)
    network = launch.create(tmp_path / "net", 4, rig=rig)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_bytes(os.urandom(SIZE))
    with (tmp_path / "a.car").open("wb") as out:
        pack(tmp_path / "files", out)
    try:
        network.start()
        with contextlib.ExitStack() as stack:
            client, holder = (stack.enter_context(node.client()) for node in network.nodes[:2])
            given = ImportParams(str(tmp_path / "a.car"))
            holder.call("storage_import", given, result=ImportedCar)
            [file] = client.call("storage_import", given, result=ImportedCar).files
            keys = holder.call("wallet_listKeys", result=Keys).items
            [account] = [key.address for key in keys if key.name == "default"]
            offer = OfferParams(file.root, account, "1000", 50)
            deal = client.call("storage_offerDeal", offer, result=Offered).deal
            wait(holder, lambda info: info.deal == deal)
            holder.call("storage_acceptDeal", DealParams(deal), result=DealSent)
            proven = wait(client, lambda info: info.proven >= 2)
            assert (proven.missed, proven.slashed) == (0, "0")
            [path] = [p for p in network.nodes[1].home.blocks.rglob("*") if is_the_file(p)]
            path.chmod(0o600)
            with path.open("r+b") as damaged:
                damaged.write(bytes(SIZE))
            broken = wait(client, lambda info: info.status == "broken")
    finally:
        network.stop()
    assert (broken.missed, broken.slashed) == (5, "5000")
    assert int(broken.paid) == 1_000 * broken.proven


def is_the_file(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == SIZE
