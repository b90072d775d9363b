"""Tenants of one node: what each of them sees, claims, and may use at once."""
# ruff: noqa: ANN401 - handlers of many methods take many structs

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.node.callers.belongings import OWNED, SHARED, Kind
from prsm.node.callers.halves import start_then_wait
from prsm.node.callers.stores import QuotaPassed, StoredObject
from prsm.node.callers.tenants import Tenants
from prsm.node.rpc.dispatch import Dispatcher, bind
from prsm.node.rpc.errors import Forbidden, TooMany
from prsm.node.rpc.methods import models as models_api
from prsm.node.rpc.methods import tasks as tasks_api
from prsm.node.rpc.methods import work as work_api
from prsm.node.rpc.methods.serving import ServeParams
from prsm.node.rpc.methods.subscriptions import ModelRow
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import ALL_SCOPES, Caller
from prsm.protocol.errors import LocalError
from prsm.storage.errors import NotFound
from prsm.storage.tenancy import Tenancy, TenantRow, open_database
from tests.tools.clocks import SetClock
from tests.tools.rpc_node import FakeNode, sample

A: Final = Caller("token a", ALL_SCOPES, tenant="lab-a", token_id="ta")
B: Final = Caller("token b", ALL_SCOPES, tenant="lab-b", token_id="tb")
OPERATOR: Final = Caller("cookie", ALL_SCOPES)
RUN: Final = work_api.RunParams("m", texts=("x",))
MIB: Final = 2**20


def cid(number: int) -> str:
    return "b" + "a" * 57 + "abcdefgh"[number]


@dataclass
class House:
    """A fake node whose jobs, tasks and models are a few lists, behind the layers."""

    tenancy: Tenancy
    clock: SetClock = field(default_factory=SetClock)
    node: FakeNode = field(default_factory=FakeNode)
    jobs: list[str] = field(default_factory=list)
    over: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    fetched: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tenants = Tenants(
            self.tenancy,
            self.clock,
            is_over=lambda _kind, name: "0x" + name.hex() in self.over,
            find_object=self._find,
            is_fetched=self.fetched.__contains__,
        )
        self.dispatcher = self._bind()

    async def _find(self, ref: str) -> StoredObject:
        return StoredObject(ref, self.sizes.get(ref, MIB), ref in self.held)

    def _bind(self) -> Dispatcher:
        job: work_api.Job = sample(work_api.Job)

        async def run(_params: Any, _caller: Caller) -> work_api.Job:
            self.jobs.append("0x" + f"{len(self.jobs) + 1:064x}")
            return msgspec.structs.replace(job, job_id=self.jobs[-1])

        async def listed(_params: Any, _caller: Caller) -> work_api.Jobs:
            rows = (msgspec.structs.replace(job, job_id=one) for one in self.jobs)
            return work_api.Jobs(items=tuple(rows))

        async def get(params: Any, _caller: Caller) -> work_api.Job:
            return msgspec.structs.replace(job, job_id=params.job_id)

        async def models(_params: Any, _caller: Caller) -> models_api.Models:
            one: models_api.ModelInfo = sample(models_api.ModelInfo)
            rows = (msgspec.structs.replace(one, cid=held) for held in sorted(self.held))
            return models_api.Models(items=tuple(rows))

        mine = {"infer_run": run, "job_list": listed, "job_get": get, "model_list": models}
        layers = (start_then_wait, self.tenants.layer)
        return bind(self.node.handlers() | mine, layers=layers)

    async def call(self, name: str, params: Any = None, caller: Caller = A) -> Any:
        method = METHODS[name]
        given = params if params is not None else method.example or method.params()
        return await self.dispatcher.call(name, given, caller)

    async def seen(self, caller: Caller) -> set[str]:
        return {job.job_id for job in (await self.call("job_list", None, caller)).items}


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[House]:
    database = await open_database(folder / "tenancy.db")
    try:
        house = House(Tenancy(database))
        await house.tenants.load()
        yield house
    finally:
        await database.close()  # noqa: ASYNC102 - close() shields itself


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as found:
        yield found


async def test_each_sees_its_own_jobs(house: House) -> None:
    """Listed apart, foreign ids not found in the words of ids nobody has; the operator sees all."""
    mine = await house.call("infer_run", RUN, A)
    theirs = await house.call("infer_run", RUN, B)
    await house.call("infer_run", RUN, OPERATOR)
    assert await house.seen(A) == {mine.job_id}
    assert await house.seen(B) == {theirs.job_id}
    assert len(await house.seen(OPERATOR)) == 3
    assert (await house.call("job_get", work_api.JobParams(mine.job_id))).job_id == mine.job_id
    said = []
    for other in (theirs.job_id, house.jobs[2], "0x" + "ff" * 32):
        with pytest.raises(NotFound) as refusal:
            await house.call("job_cancel", work_api.JobIdParams(other))
        said.append(refusal.value.what.replace(other, "ID"))
    assert len(set(said)) == 1


async def test_methods_of_the_operator_are_refused(house: House) -> None:
    """Walk the table: a tenant reaches what is shared, or what names something of its own."""
    for name in METHODS:
        before = len(house.node.calls)
        if name in OWNED:
            continue
        house.clock.now_ms += 1_000
        if name in SHARED:
            await house.call(name)
            assert len(house.node.calls) == before + 1
        else:
            with pytest.raises(Forbidden, match="operator"):
                await house.call(name)
            assert len(house.node.calls) == before
        await house.call(name, None, OPERATOR)


async def test_no_named_thing_of_another_is_reached(house: House) -> None:
    """Every method that names a thing: nothing of nobody's reaches a handler."""
    for name, belonging in OWNED.items():
        method = METHODS.get(name)
        if method is None or belonging.named is None or belonging.named.field == "task":
            continue
        house.clock.now_ms += 1_000
        with pytest.raises(NotFound):
            await house.call(name)
    assert house.node.calls == []


async def test_what_is_named_in_the_tables_is_there() -> None:
    """Each field of a rule is one of its method's parameters or results."""
    for name, belonging in OWNED.items():
        if name not in METHODS:
            continue
        method = METHODS[name]
        if belonging.named:
            assert belonging.named.field in method.params.__struct_fields__, name
        if belonging.made:
            assert belonging.made.field in method.result.__struct_fields__, name
        if belonging.listed:
            assert "items" in method.result.__struct_fields__, name
        if belonging.later:
            assert METHODS[belonging.later].result is method.result
        if belonging.stores or belonging.gives_up:
            assert "ref" in method.params.__struct_fields__, name


async def test_running_work_has_a_quota(house: House) -> None:
    """Two at once; a third when one is over; the other tenant has its own."""
    await house.tenants.put(TenantRow("lab-a", 2, MIB, 50, 1))
    first = await house.call("infer_run", RUN)
    await house.call("infer_run", RUN)
    with pytest.raises(QuotaPassed, match="2 jobs, plans and texts"):
        await house.call("infer_run", RUN)
    await house.call("infer_run", RUN, B)
    house.over.add(first.job_id)
    await house.call("infer_run", RUN)
    assert len(house.jobs) == 4


async def test_calls_a_second_are_bounded(house: House) -> None:
    """A bucket of two seconds; then a typed refusal that says when; time fills it again."""
    await house.tenants.put(TenantRow("lab-a", 2, MIB, 5, 1))
    for _ in range(10):
        await house.call("rpc_ping")
    with pytest.raises(TooMany) as refusal:
        await house.call("rpc_ping")
    assert refusal.value.retry_after_ms == 201
    await house.call("rpc_ping", None, B)
    house.clock.now_ms += refusal.value.retry_after_ms
    await house.call("rpc_ping")
    with pytest.raises(TooMany):
        await house.call("rpc_ping")


def ref(name: str) -> models_api.RefParams:
    return models_api.RefParams(name)


async def test_stored_bytes_have_a_quota(house: House) -> None:
    """Claimed before it is fetched, at its full size; again for nothing; given up, room again."""
    await house.tenants.put(TenantRow("lab-a", 2, 3 * MIB, 50, 1))
    house.sizes[cid(1)] = 2 * MIB
    await house.call("model_startPull", ref(cid(1)))
    await house.call("model_startPull", ref(cid(1)))
    house.sizes[cid(2)] = 2 * MIB
    with pytest.raises(QuotaPassed, match="stores 2097152 of 3145728"):
        await house.call("model_startPull", ref(cid(2)))
    await house.call("model_remove", ref(cid(1)))
    await house.call("model_startPull", ref(cid(2)))
    row, running, stored = await house.tenants.usage("lab-a")
    assert (row.storage_bytes_max, running, stored) == (3 * MIB, 0, 2 * MIB)


async def test_failed_pull_claims_nothing(house: House) -> None:
    """A fetch that is refused leaves no claim, and no bytes counted."""
    house.node.answers["model_startPull"] = LocalError("nobody has it")
    with pytest.raises(LocalError):
        await house.call("model_startPull", ref(cid(1)))
    assert (await house.tenants.usage("lab-a"))[2] == 0


async def test_objects_go_with_their_last_claim(house: House) -> None:
    """Two tenants have a model: the first to remove it only gives up its claim."""
    for caller in (A, B):
        await house.call("model_startPull", ref(cid(1)), caller)
    house.held = {cid(1), cid(2)}
    await house.call("model_startPull", ref(cid(2)), A)  # it was the operator's before
    gone = await house.call("model_remove", ref(cid(1)), A)
    assert (gone.files, gone.freed_bytes, gone.shared) == (0, 0, 1)
    await house.call("model_remove", ref(cid(2)), A)
    assert not [name for name, _ in house.node.calls if name == "model_remove"]
    await house.call("model_remove", ref(cid(1)), B)
    assert [name for name, _ in house.node.calls if name == "model_remove"]
    with pytest.raises(NotFound):
        await house.call("model_remove", ref(cid(1)), A)


async def test_models_of_other_tenants_are_not_listed(house: House) -> None:
    """The operator's are everybody's, before and after a tenant claims them; others are not."""

    async def listed(caller: Caller) -> set[str]:
        return {model.cid for model in (await house.call("model_list", None, caller)).items}

    house.held = {cid(0), cid(1)}
    await house.call("model_startPull", ref(cid(1)), A)
    await house.call("model_startPull", ref(cid(2)), A)
    house.held.add(cid(2))
    assert await listed(A) == {cid(0), cid(1), cid(2)}
    assert await listed(B) == {cid(0), cid(1)}
    assert await listed(OPERATOR) == house.held


async def test_pins_are_apart(house: House) -> None:
    """One name of two tenants is two pins; each sees its own under its own name."""
    pins: dict[str, str] = {}

    async def note() -> None:
        name, params = house.node.calls[-1]
        pins[house.node.callers[-1].tenant] = params.name
        assert name == "model_pin"

    house.node.before["model_pin"] = note
    whole: models_api.Pinned = sample(models_api.Pinned)
    for caller in (A, B):
        made = models_api.PinParams(cid(1), "weekly")
        house.node.answers["model_pin"] = msgspec.structs.replace(whole, name="never shown")
        await house.call("model_pin", made, caller)
    assert pins["lab-a"] != pins["lab-b"]
    assert all(name.endswith(".weekly") for name in pins.values())
    await house.call("model_unpin", models_api.PinParams(cid(1), "weekly"), A)
    assert house.node.calls[-1][1].name == pins["lab-a"]
    assert (await house.tenants.usage("lab-a"))[2] == 0
    assert (await house.tenants.usage("lab-b"))[2] == MIB


async def test_task_is_named_by_a_prefix_of_its_own(house: House) -> None:
    """A prefix that fits a task of another tenant and one of ours is ours."""
    info: tasks_api.TaskInfo = sample(tasks_api.TaskInfo)
    for caller, name in ((A, "pull-1f0c2a9b"), (B, "pull-1f0cffff")):
        house.node.answers["model_startPull"] = msgspec.structs.replace(info, task_id=name)
        await house.call("model_startPull", ref(cid(1)), caller)
    await house.call("task_get", tasks_api.TaskParams("pull-1f"), A)
    assert house.node.calls[-1][1].task_id == "pull-1f0c2a9b"
    with pytest.raises(NotFound):
        await house.call("task_get", tasks_api.TaskParams("pull-1f0cf"), A)


async def test_requests_wait_in_their_tenants_turn(house: House) -> None:
    """What a call says about its tenant counts for the operator alone."""
    request = ServeParams("m", texts=("x",), tenant="lab-b")
    await house.call("serve_run", request, A)
    assert house.node.calls[-1][1].tenant == "lab-a"
    await house.call("serve_run", request, OPERATOR)
    assert house.node.calls[-1][1].tenant == "lab-b"


async def test_waited_for_job_is_owned_while_it_runs(house: House) -> None:
    """The caller hangs up in the wait: the job is its own all the same."""
    house.dispatcher = bind(house.node.handlers(), layers=(start_then_wait, house.tenants.layer))
    house.node.before["job_get"] = trio.sleep_forever
    params = msgspec.structs.replace(RUN, wait_ms=1_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.call, "infer_run", params)
        await house.node.wait_calls(2)
        nursery.cancel_scope.cancel()
    job = sample(work_api.Job).job_id
    assert await house.tenancy.owned("lab-a", Kind.JOB) == {job}
    assert house.tenants.may_see(A, "job", job)
    assert not house.tenants.may_see(B, "job", job)
    assert house.tenants.may_see(OPERATOR, "job", job)


async def test_rows_of_topics_are_heard_by_their_owners(house: House) -> None:
    """A job's row by its tenant and the operator; a model nobody claims by all; logs by nobody."""
    await house.call("infer_run", RUN, A)
    row = msgspec.structs.replace(sample(work_api.Job), job_id=house.jobs[0])
    hear = house.tenants.may_hear
    assert [hear(who, "jobs", row) for who in (A, B, OPERATOR)] == [True, False, True]
    await house.call("model_startPull", ref(cid(1)), A)
    for held, heard in ((cid(1), [True, False, True]), (cid(2), [True, True, True])):
        model = ModelRow("m", held, "held")
        assert [hear(who, "models", model) for who in (A, B, OPERATOR)] == heard
    assert [hear(who, "logs", row) for who in (A, B, OPERATOR)] == [False, False, True]


async def test_claims_survive_a_restart_and_end_with_the_tenant(tmp_path: Path) -> None:
    """Written before the answer; a removed tenant's things are the operator's alone."""
    async with opened(tmp_path) as house:
        job = await house.call("infer_run", RUN)
    async with opened(tmp_path) as house:
        house.jobs = [job.job_id]
        assert await house.seen(A) == {job.job_id}
        assert house.tenants.may_see(A, "job", job.job_id)
        await house.tenants.remove("lab-a")
        assert await house.seen(A) == set()
        assert not house.tenants.may_see(A, "job", job.job_id)
        with pytest.raises(NotFound):
            await house.tenants.remove("lab-z")


_STEPS = st.lists(
    st.tuples(st.sampled_from((A, B, OPERATOR)), st.booleans(), st.integers(0, 9)), max_size=15
)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(_STEPS)
def test_no_order_of_calls_shows_anything_of_another(
    steps: list[tuple[Caller, bool, int]],
) -> None:
    """Jobs made and asked for in any order, against a list of who made what."""
    with TemporaryDirectory() as folder:
        trio.run(_compare, Path(folder), steps)


async def _compare(folder: Path, steps: list[tuple[Caller, bool, int]]) -> None:
    made: list[str] = []
    async with opened(folder) as house:
        for caller, is_new, which in steps:
            house.over = set(house.jobs)
            if is_new:
                await house.call("infer_run", RUN, caller)
                made.append(caller.tenant)
            elif made:
                at = which % len(made)
                is_own = caller.tenant in {"", made[at]}
                try:
                    await house.call("job_get", work_api.JobParams(house.jobs[at]), caller)
                    assert is_own
                except NotFound:
                    assert not is_own
            own = {
                job for job, who in zip(house.jobs, made, strict=True) if caller.tenant in {"", who}
            }
            assert await house.seen(caller) == own
