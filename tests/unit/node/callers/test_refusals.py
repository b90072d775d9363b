"""Who tried what at the door: one line at once, then few with a count, and never without bound."""

from pathlib import Path
from typing import Final

import pytest
import trio
from typing_extensions import override

from prsm.node.callers.audit import AuditLog, Entry
from prsm.node.callers.refusals import EVERY_MS, KEPT_MAX, Refusals
from prsm.node.clock import TrioClock
from prsm.node.rpc.dispatch import bind
from prsm.node.rpc.errors import Forbidden
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import ALL_SCOPES, Caller, NoParams, Scope
from prsm.storage.errors import Full
from tests.tools.clocks import SetClock
from tests.tools.rpc_node import FakeNode

READER: Final = Caller(
    "token screen", frozenset((Scope.READ,)), "trace-3", tenant="lab", token_id="t3"
)


@pytest.fixture
async def audit(tmp_path: Path) -> AuditLog:
    return await AuditLog.open(tmp_path, TrioClock())


async def lines(audit: AuditLog) -> list[Entry]:
    return list(reversed(await audit.newest(1_000)))


async def test_refused_administration_has_a_line_and_a_refused_write_has_none(
    audit: AuditLog,
) -> None:
    """Scopes and method patterns both refuse; what is allowed is not said here."""
    refusals = Refusals(audit, SetClock())
    calls = bind(FakeNode().handlers(), on_refused=refusals.note)
    bounded = Caller("token jobs", ALL_SCOPES, methods=("job_*",))
    for caller, name in (
        (READER, "node_stop"),
        (READER, "audit_list"),
        (READER, "storage_gc"),
        (bounded, "wallet_listKeys"),
        (bounded, "node_stop"),
    ):
        method = METHODS[name]
        with pytest.raises(Forbidden):
            await calls.call(name, method.example or method.params(), caller)
    await calls.call("node_stop", NoParams(), Caller("cookie", ALL_SCOPES))
    await refusals.write_due()
    found = await lines(audit)
    assert [(one.event, one.who, one.subject) for one in found] == [
        ("refused", "token screen", "node_stop"),
        ("refused", "token screen", "audit_list"),
        ("refused", "token jobs", "node_stop"),
    ]
    assert (found[0].tenant, found[0].token_id, found[0].trace_id) == ("lab", "t3", "trace-3")
    assert found[0].fields == {"times": "1"}


async def test_repeats_are_counted_for_ten_minutes(audit: AuditLog) -> None:
    clock = SetClock()
    refusals, stop = Refusals(audit, clock), METHODS["node_stop"]
    refusals.note(stop, READER)
    await refusals.write_due()
    for _ in range(500):
        refusals.note(stop, READER)
        await refusals.write_due()
    assert len(await lines(audit)) == 1
    clock.now_ms += EVERY_MS
    await refusals.write_due()
    assert [one.fields["times"] for one in await lines(audit)] == ["1", "500"]
    clock.now_ms += EVERY_MS
    await refusals.write_due()
    refusals.note(stop, READER)
    await refusals.write_due()
    assert len(await lines(audit)) == 3, "after quiet minutes another one is news"


async def test_many_callers_share_a_line(audit: AuditLog) -> None:
    refusals, stop = Refusals(audit, SetClock()), METHODS["node_stop"]
    for number in range(KEPT_MAX + 100):
        refusals.note(stop, Caller(f"token {number}", frozenset()))
    await refusals.write_due()
    found = await lines(audit)
    assert len(found) == KEPT_MAX + 1
    assert (found[-1].who, found[-1].fields["times"]) == ("others", "100")


async def test_first_is_written_at_once_and_the_last_ones_at_the_end(audit: AuditLog) -> None:
    refusals, stop = Refusals(audit, TrioClock()), METHODS["node_stop"]
    async with trio.open_nursery() as nursery:
        await nursery.start(refusals.run)
        refusals.note(stop, READER)
        with trio.fail_after(20):
            while not audit.root.seq:
                await trio.lowlevel.checkpoint()
        refusals.note(stop, READER)
        refusals.note(stop, READER)
        nursery.cancel_scope.cancel()
    assert [one.fields["times"] for one in await lines(audit)] == ["1", "2"]


async def test_full_disk_loses_the_line_and_nothing_else(tmp_path: Path) -> None:
    class Refusing(AuditLog):
        @override
        async def write(self, note: object, fields: object) -> Entry:
            await trio.lowlevel.checkpoint()
            raise Full("no space left on device")

    refusals = Refusals(Refusing(tmp_path, TrioClock()), SetClock())
    refusals.note(METHODS["node_stop"], READER)
    await refusals.write_due()
