"""infer_plan, infer_quote and model_shard in JSON: alone, and beside workers."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.node.api.offers import OffersApi
from prsm.node.models import Known, Models
from prsm.node.rpc.methods.offers import QuoteParams, ShardParams
from prsm.node.rpc.methods.work import RunParams, TensorText
from prsm.node.rpc.spec import Caller
from prsm.protocol.genesis import Parameters
from prsm.storage.cid import decode_cid
from tests.tools.site import Site, open_site
from tests.tools.work import MODEL, given_rows, make_cluster, make_manifest

ROWS = 32
CALLER = cast("Caller", None)  # nobody looks at it
PRICE = 10


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        cid = await opened.models._tools.store.save_manifest(make_manifest())
        opened.models._held[cid] = make_manifest()
        yield opened


def inputs() -> list[dict[str, object]]:
    return [
        {"name": t.head.name, "dtype": "u8", "shape": t.head.shape, "data": "0x" + t.data.hex()}
        for t in given_rows(ROWS)
    ]


async def test_without_workers_a_plan_is_refused_and_nothing_is_quoted(site: Site) -> None:
    asked = {"model": "adder", "inputs": inputs()}
    assert await site.refused("infer_plan", **asked) == (-32032, "too_few_peers")
    assert (await site.refused("infer_plan", **asked, stages=4))[1] == "no_cut_for_k"
    assert (await site.refused("infer_plan", model="adder"))[1] == "input_mismatch"
    assert (await site.refused("model_shard", ref="adder", plan=True))[1] == "too_few_peers"
    assert (await site.ask("infer_quote", model="adder"))["items"] == []


async def test_splits_are_listed_with_what_a_worker_needs(site: Site) -> None:
    found = await site.ask("model_shard", ref="adder")
    assert [(item["stages"], item["stage"]) for item in found["items"]] == [
        (1, 0),
        (2, 0),
        (2, 1),
        (3, 0),
        (3, 1),
        (3, 2),
    ]
    assert {item["boundary"] for item in found["items"]} == {"x", "cut1", "cut2"}
    assert all(item["needs_bytes"] > item["weight_bytes"] for item in found["items"])
    assert found["plan"] is None
    only = await site.ask("model_shard", ref="adder", stages=2)
    assert len(only["items"]) == 2


class OneModel:
    """The models of a node that knows one."""

    async def find(self, ref: str, *, offline: bool = False) -> Known:
        await trio.lowlevel.checkpoint()
        assert ref == "adder"
        assert not offline
        return Known(decode_cid(MODEL), make_manifest(), is_held=True, is_registered=True)


async def test_plan_and_quotes_say_what_it_costs_and_who_does_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(4, price_per_row=PRICE)
    await cluster.start(nursery)
    jobs = cluster.requester.jobs
    prices = Parameters(fee_base=1_000_000, fee_per_byte=10, fee_per_operation=500)
    api = OffersApi(cast("Models", OneModel()), jobs, jobs.planning, lambda: prices)
    rows = msgspec.convert(inputs(), tuple[TensorText, ...])
    found = await api.plan(RunParams("adder", inputs=rows, stages=3, spread=1), CALLER)
    assert (found.mode, found.rows, found.batches, found.stages) == ("pipeline", ROWS, 8, 3)
    assert int(found.amount) == int(found.reserve) == 3 * 3 * PRICE * ROWS
    assert (found.spare, found.one_machine_ms, found.plan_ms) == ("0", None, None)
    assert [(unit.stage, unit.rows, unit.needed, len(unit.peers)) for unit in found.units] == [
        (stage, ROWS, 2, 3) for stage in range(3)
    ]
    assert [way.why_not for way in found.considered] == [""]
    assert any("2 of 3" in line for line in found.because)
    # A lock and three settlements; their bytes and operations are less than another one's base.
    assert 4_000_000 < int(found.fees) < 5_000_000
    quotes = await api.quote(QuoteParams("adder", stages=3, rows=ROWS), CALLER)
    assert [item.price_per_row for item in quotes.items] == [str(PRICE)] * 3
    assert {item.amount for item in quotes.items} == {str(3 * PRICE * ROWS)}
    shown = await api.shard(ShardParams("adder", plan=True, rows=ROWS + 1), CALLER)
    assert shown.plan is not None
    assert (shown.plan.rows, shown.plan.batches) == (ROWS + 1, 9)
