"""What tenants share on one node: tasks, models, pins, and nobody in another's way."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from prsm.node.api.tasks import TasksApi, task_info
from prsm.node.callers.belongings import Kind, own_pin
from prsm.node.callers.stores import QuotaPassed
from prsm.node.models import Pinned, Task, Tasks, TaskState
from prsm.node.rpc.dispatch import bind
from prsm.node.rpc.errors import CallTimeout
from prsm.node.rpc.methods import models as api
from prsm.node.rpc.methods.tasks import TaskIdParams, TaskInfo, TaskParams
from prsm.node.rpc.spec import Caller
from prsm.storage.errors import NotFound
from prsm.storage.tenancy import TenantRow
from tests.tools.rpc_node import sample
from tests.unit.node.callers.test_tenants import MIB, OPERATOR, A, B, House, cid, opened


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as found:
        yield found


async def owners(house: House, number: int) -> set[str]:
    return set(await house.tenancy.owners(Kind.OBJECT, cid(number)))


async def test_storage_quota_holds_for_pulls_at_once(house: House) -> None:
    await house.tenants.put(TenantRow("lab-a", 10, 2 * MIB, 1000, 0))
    told: list[str] = []

    async def pull(number: int) -> None:
        try:
            await house.call("model_startPull", api.RefParams(cid(number)))
            told.append("taken")
        except QuotaPassed as error:
            told.append(error.reason)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(pull, number)
    assert sorted(told) == ["quota_passed"] * 6 + ["taken"] * 2
    assert (await house.tenants.usage("lab-a"))[2] == 2 * MIB
    assert len(house.node.calls) == 2


@pytest.mark.parametrize(
    ("error", "is_fetched", "is_kept"),
    [
        (NotFound("nobody has it"), False, False),
        (NotFound("nobody has it"), True, True),  # a task of another call brings it here
        (CallTimeout("late"), False, True),  # the task goes on
        (RuntimeError("a bug"), False, True),
    ],
)
async def test_claim_ends_with_a_refusal_and_stays_where_the_model_may_come(
    error: Exception, is_fetched: bool, is_kept: bool, house: House
) -> None:
    house.node.answers["model_pull"] = error
    house.fetched |= {cid(1)} if is_fetched else set()
    with pytest.raises(type(error)):
        await house.call("model_pull", api.LongParams(cid(1)))
    assert await owners(house, 1) == ({"lab-a"} if is_kept else set())


async def test_claim_stays_for_another_call_of_the_tenant(house: House) -> None:
    """The call that made the claim is refused beside one that is at work, or is done."""
    release = trio.Event()
    house.node.before["model_pull"] = release.wait
    house.node.answers["model_pull"] = NotFound("nobody has it")

    async def refused() -> None:
        with pytest.raises(NotFound):
            await house.call("model_pull", api.LongParams(cid(1)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refused)
        await house.node.wait_calls(1)
        await house.call("model_startPull", api.RefParams(cid(1)))
        release.set()
    assert await owners(house, 1) == {"lab-a"}


async def test_call_that_is_cut_off_keeps_its_claim(house: House) -> None:
    house.node.before["model_pull"] = trio.sleep_forever
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.call, "model_pull", api.LongParams(cid(1)))
        await house.node.wait_calls(1)
        nursery.cancel_scope.cancel()
    assert await owners(house, 1) == {"lab-a"}


async def test_task_of_several_tenants_ends_with_the_last(house: House) -> None:
    """Who joined a task gives it up for itself; the operator ends it for all."""
    tasks = Tasks(house.clock)

    async def sleep(_task: Task) -> None:
        await trio.sleep_forever()

    async def start(params: api.RefParams, caller: Caller) -> TaskInfo:
        return task_info(tasks.start("pull", params.ref, sleep, tenant=caller.tenant))

    handlers = house.node.handlers() | TasksApi(tasks).handlers() | {"model_startPull": start}
    door = bind(handlers, layers=(house.tenants.layer,))

    async def call(name: str, params: Any, caller: Caller) -> TaskInfo:  # noqa: ANN401 - as the table says
        found = await door.call(name, params, caller)
        assert isinstance(found, TaskInfo)
        return found

    async with trio.open_nursery() as nursery:
        await nursery.start(tasks.run)
        for starters, enders in (((A, B), (B, A)), ((OPERATOR, A), (A, OPERATOR))):
            ref = api.RefParams(cid(1))
            [name] = {(await call("model_startPull", ref, who)).task_id for who in starters}
            first, last = enders
            assert (await call("task_cancel", TaskIdParams(name), first)).state == "running"
            with pytest.raises(NotFound):
                await call("task_cancel", TaskIdParams(name), first)
            assert (await call("task_get", TaskParams(name), last)).state == "running"
            assert (await call("task_cancel", TaskIdParams(name), last)).state == "cancelled"
        alone = await call("model_startPull", api.RefParams(cid(2)), A)
        await call("model_startPull", api.RefParams(cid(2)), B)
        await call("task_cancel", TaskIdParams(alone.task_id), OPERATOR)
        assert tasks.get(alone.task_id).state is TaskState.CANCELLED
        nursery.cancel_scope.cancel()


async def test_pins_of_others_are_in_no_answer(house: House) -> None:
    theirs = own_pin(api.PinParams(cid(1), "merger-with-acme"), "lab-b")[1]
    mine = own_pin(api.PinParams(cid(1), "mine"), "lab-a")[1]
    pins = (theirs, "operators-own", mine)
    model: api.ModelInfo = msgspec.structs.replace(sample(api.ModelInfo), cid=cid(1), pins=pins)
    detail: api.ModelDetail = msgspec.structs.replace(sample(api.ModelDetail), model=model)
    house.node.answers |= {
        "model_get": detail,
        "model_pull": model,
        "model_unpin": api.Unpinned(cid(1), mine, pins),
    }
    assert (await house.call("model_get", api.RefParams(cid(1)))).model.pins == ("mine",)
    assert (await house.call("model_pull", api.LongParams(cid(1)))).pins == ("mine",)
    left = await house.call("model_unpin", api.PinParams(cid(1), "mine"))
    assert (left.name, left.left) == ("mine", ("mine",))
    assert (await house.call("model_get", api.RefParams(cid(1)), OPERATOR)).model.pins == pins


async def test_pins_of_others_neither_show_nor_hold_a_claim(house: House) -> None:
    """Who gives a model up is told no name but its own, and others' pins keep bytes, not claims."""
    await house.call("model_startPull", api.RefParams(cid(1)))
    theirs = own_pin(api.PinParams(cid(1), "merger-with-acme"), "lab-b")[1]
    mine = own_pin(api.PinParams(cid(1), "mine"), "lab-a")[1]
    house.node.answers["model_remove"] = Pinned("m@1.0.0", (theirs, "operators-own", mine))
    with pytest.raises(Pinned) as refused:
        await house.call("model_remove", api.RefParams(cid(1)))
    assert refused.value.what == f"{cid(1)} is pinned as mine"
    assert refused.value.hint == f"prsm model unpin {cid(1)} --name mine"
    house.node.answers["model_remove"] = Pinned("m@1.0.0", (theirs, "operators-own"))
    gone = await house.call("model_remove", api.RefParams(cid(1)))
    assert (gone.files, gone.freed_bytes, gone.shared) == (0, 0, 1)
    assert await owners(house, 1) == set()
    with pytest.raises(Pinned):  # the operator is told
        await house.call("model_remove", api.RefParams(cid(1)), OPERATOR)


async def test_a_claim_is_not_given_up_under_a_pin_of_ones_own(house: House) -> None:
    """With another owner nobody would look at pins: one would stay that its tenant cannot end."""
    house.node.answers["model_pin"] = api.Pinned(cid(1), "", "held")
    house.node.answers["model_unpin"] = api.Unpinned(cid(1), "", ())
    await house.call("model_pin", api.PinParams(cid(1), "mine"))
    await house.call("model_startPull", api.RefParams(cid(1)), B)
    with pytest.raises(Pinned, match="pinned as mine"):
        await house.call("model_remove", api.RefParams(cid(1)))
    assert await owners(house, 1) == {"lab-a", "lab-b"}
    # A pin that is gone, as after a crash between the store's word and ours: it is forgotten.
    kept = own_pin(api.PinParams(cid(1), "mine"), "lab-a")[1]
    house.node.answers["model_unpin"] = NotFound(f"m@1.0.0 is not pinned as {kept!r}")
    with pytest.raises(NotFound, match="is not pinned as 'mine'"):
        await house.call("model_unpin", api.PinParams(cid(1), "mine"))
    await house.call("model_remove", api.RefParams(cid(1)))
    assert await owners(house, 1) == {"lab-b"}
