"""Work that was begun and is waited for: whatever refuses then, the same key begins it no more."""

import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trio

from prsm.node.callers.halves import start_then_wait
from prsm.node.callers.once import Once
from prsm.node.callers.stores import StoredObject
from prsm.node.callers.tenants import Tenants
from prsm.node.rpc.dispatch import Ask, Dispatcher, Go, bind
from prsm.node.rpc.errors import CallTimeout, TooMany
from prsm.node.rpc.methods import work as work_api
from prsm.node.rpc.spec import ALL_SCOPES, Caller
from prsm.protocol.errors import LocalError
from prsm.storage.answers import AnswerStore
from prsm.storage.errors import NotFound, StoreUnavailable
from prsm.storage.tenancy import Tenancy, TenantRow, open_database
from tests.tools.clocks import SetClock
from tests.tools.rpc_node import FakeNode, sample

LAB: Final = Caller("token a", ALL_SCOPES, tenant="lab-a", token_id="ta")


class Lab:
    """A node that begins jobs for one tenant, behind the layers."""

    def __init__(self, tenancy: Tenancy) -> None:
        self.clock, self.node, self.jobs = SetClock(), FakeNode(), list[str]()
        self.tenancy = tenancy
        self.tenants = Tenants(
            tenancy,
            self.clock,
            is_over=lambda _kind, _name: True,
            find_object=nothing,
            is_fetched=lambda _cid: False,
        )
        self.refuse: LocalError | None = None  # by a layer, behind the handler

    async def run(self, _params: Any, _caller: Caller) -> work_api.Job:  # noqa: ANN401 - as the table says
        self.jobs.append("0x" + f"{len(self.jobs) + 1:064x}")
        job: work_api.Job = sample(work_api.Job)
        return msgspec.structs.replace(job, job_id=self.jobs[-1])

    async def refusing(self, ask: Ask, go: Go) -> object:
        result = await go(ask)
        if self.refuse is not None:
            raise self.refuse
        return result

    def bind(self, once: Once) -> Dispatcher:
        layers = (once.layer, self.refusing, start_then_wait, self.tenants.layer)
        return bind(self.node.handlers() | {"infer_run": self.run}, layers=layers)


async def nothing(ref: str) -> StoredObject:
    raise NotFound(ref)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Lab, Dispatcher]]:
    database = await open_database(folder / "tenancy.db")
    try:
        async with trio.open_nursery() as nursery:
            lab = Lab(Tenancy(database))
            await lab.tenants.load()
            once = Once(
                functools.partial(AnswerStore.open, folder / "answers.db"), lab.clock, bytes(32)
            )
            await nursery.start(once.run)
            yield lab, lab.bind(once)
            nursery.cancel_scope.cancel()
    finally:
        await database.close()  # noqa: ASYNC102 - close() shields itself


async def begin(door: Dispatcher, *, wait_ms: int = 0) -> str:
    """The job's id, or the reason of the refusal."""
    params = {"model": "m", "texts": ["x"], "wait_ms": wait_ms, "idempotency_key": "K"}
    call = {"jsonrpc": "2.0", "id": 1, "method": "infer_run", "params": params}
    raw = await door.answer(json.dumps(call).encode(), LAB)
    assert raw is not None
    told = json.loads(raw)
    found: str = told["error"]["data"]["reason"] if "error" in told else told["result"]["job_id"]
    return found


async def test_wait_takes_no_turn_of_its_tenant(tmp_path: Path) -> None:
    """One turn is left; the job that takes it is waited for all the same."""
    async with opened(tmp_path) as (lab, door):
        await lab.tenants.put(TenantRow("lab-a", 10, 10**9, 1, 0))
        await door.answer(b'{"jsonrpc":"2.0","id":1,"method":"rpc_ping"}', LAB)
        lab.node.answers["job_get"] = msgspec.structs.replace(sample(work_api.Job), job_id="done")
        assert await begin(door, wait_ms=1_000) == "done"
        lab.clock.now_ms += 1_001
        assert await begin(door, wait_ms=1_000) == "done"
        assert len(lab.jobs) == 1


@pytest.mark.parametrize("error", [TooMany("later"), CallTimeout("late"), NotFound("gone")])
async def test_refused_wait_answers_with_what_was_begun(error: LocalError, tmp_path: Path) -> None:
    async with opened(tmp_path) as (lab, door):
        lab.node.answers["job_get"] = error
        assert await begin(door, wait_ms=1_000) == lab.jobs[0]
        assert await begin(door, wait_ms=1_000) == lab.jobs[0]
        assert len(lab.jobs) == 1


async def test_what_a_layer_refuses_behind_the_handler_is_not_begun_again(tmp_path: Path) -> None:
    """A refusal that may be tried again, of a call that took effect: its outcome is not known."""
    async with opened(tmp_path) as (lab, door):
        lab.refuse = TooMany("later")
        assert await begin(door) == "rate_limited"
        lab.refuse = None
        assert await begin(door) == "outcome_unknown"
        assert len(lab.jobs) == 1


async def test_disk_that_refuses_the_claim_does_not_begin_a_second_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_args: object, **_named: object) -> None:
        raise StoreUnavailable("disk I/O error")

    async with opened(tmp_path) as (lab, door):
        with monkeypatch.context() as patch:
            patch.setattr(lab.tenancy, "claim", full)
            assert await begin(door) == "store_unavailable"
        assert await begin(door) == "outcome_unknown"
        assert len(lab.jobs) == 1
