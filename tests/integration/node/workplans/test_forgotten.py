"""The outputs of plans that are forgotten: given up, however often the disk refuses."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from trio.testing import MockClock

from prsm.node.workplans.graph import Embed, Step, Workplan
from prsm.node.workplans.plans import Plans
from prsm.storage.cid import Cid
from prsm.storage.errors import Full
from prsm.storage.jobs import JobRow
from tests.integration.node.workplans.test_plans import BUDGET, Lab, SlowFinder, lab
from tests.tools.work import MODEL

__all__ = ["lab"]


@pytest.mark.parametrize("when", ["later", "next process"])
async def test_the_output_of_a_forgotten_plan_is_given_up_once_the_disk_takes_it(
    when: str, lab: Lab, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stayed pinned for ever where the disk was full in the moment that it was forgotten."""
    refused, given_up = trio.Event(), trio.Event()
    unpin = lab.store.unpin

    async def full(_root: Cid, _name: str) -> None:
        await trio.lowlevel.checkpoint()
        refused.set()
        raise Full("the disk is full")

    async def roomy(root: Cid, name: str) -> None:
        await unpin(root, name)
        given_up.set()

    monkeypatch.setattr("prsm.node.workplans.plans.PLANS_KEPT", 1)
    monkeypatch.setattr(lab.store, "unpin", full)
    plan = Workplan((Step("a", Embed(MODEL, ("x",))),), BUDGET, 36_000_000)
    async with lab.process(SlowFinder()) as (plans, _):
        ids = [await plans.submit(plan)]
        await plans.wait(ids[0])
        ids.append(await plans.submit(plan))
        await plans.wait(ids[1])
        await refused.wait()
        assert await pinned(lab) == {plan_id.hex()[:16] for plan_id in ids}
        monkeypatch.setattr(lab.store, "unpin", roomy)
        if when == "later":
            await given_up.wait()
            assert await pinned(lab) == {ids[1].hex()[:16]}
    async with lab.process(SlowFinder()) as (plans, _):
        await all_dropped(plans)
        assert await pinned(lab) == {ids[1].hex()[:16]}


async def test_the_output_of_a_plan_that_is_not_understood_stays_and_so_does_what_others_pin(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """Another version may have kept it, and may come back for it."""
    other, gone = lab.new_id(), lab.new_id()
    lab.plans.rows[other] = JobRow(other, 1, is_over=True, state="done", body=b"another version")
    path = lab.folder / "output"
    path.write_bytes(b"output")
    root = (await lab.store.add_file(path)).root
    for owner, name in (("plans", other), ("plans", gone), ("me", gone)):
        await lab.store.pin(root, f"plan-{name.hex()[:16]}" + owner * (owner == "me"), owner)
    async with lab.process(SlowFinder()) as (plans, _):
        await all_dropped(plans)
        assert await pinned(lab) == {other.hex()[:16]}
        assert len(await lab.store.pins()) == 2


async def all_dropped(plans: Plans) -> None:
    """What an earlier process left was looked for, and is gone."""
    while not plans._is_compared or plans._forgotten:  # by threads, for which no clock may jump
        await trio.lowlevel.checkpoint()


async def pinned(lab: Lab) -> set[str]:
    """Plans of which an output is kept."""
    pins = await lab.store.pins()
    return {pin.name.removeprefix("plan-") for pin in pins if pin.owner == "plans"}
