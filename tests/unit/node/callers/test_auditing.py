"""What is audited, what a line may hold, and the root on the ledger against the log."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import pytest
import trio

from prsm.node.api.audit import AuditApi
from prsm.node.callers.audit import AuditLog, Entry, encode_line, hash_of
from prsm.node.callers.auditing import Anchors, Auditing, NothingNew, memo_of, root_of, shown
from prsm.node.chain.chain import ChainParts
from prsm.node.clock import TrioClock
from prsm.node.rpc.dispatch import Ask, Dispatcher, bind
from prsm.node.rpc.errors import BadParams
from prsm.node.rpc.methods.audit import AuditListParams, AuditVerdict, AuditVerifyParams
from prsm.node.rpc.methods.net import BanParams
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.methods.wallet import UnlockParams
from prsm.node.rpc.spec import ALL_SCOPES, Caller, NoParams, Scope
from prsm.node.telemetry import logs
from prsm.protocol.ids import TxId, parse_hex
from prsm.storage.errors import Full
from tests.tools.labs import make_cluster
from tests.tools.rpc_node import FakeNode

LAB: Final = Caller("token lab", ALL_SCOPES, "trace-7", tenant="lab", token_id="t7")
SECRET: Final = "correct horse battery"


def dispatcher(audit: AuditLog, node: FakeNode) -> Dispatcher:
    return bind(node.handlers(), layers=(Auditing(audit).layer,))


async def test_admin_and_sign_calls_have_two_lines_reads_none(tmp_path: Path) -> None:
    """A line before, a line after that names it; who, which tenant, token, trace."""
    audit = await AuditLog.open(tmp_path, TrioClock())
    node = FakeNode()

    async def seen() -> None:
        assert audit.root.seq == 1  # written before the handler runs

    node.before["node_stop"] = seen
    calls = dispatcher(audit, node)
    for name in ("node_getStatus", "model_open", "audit_list", "node_stop"):
        method = METHODS[name]
        await calls.call(name, method.example or method.params(), LAB)
    ended, begun = await audit.newest(5)
    assert (begun.event, begun.subject, begun.who) == ("call", "node_stop", "token lab")
    assert (begun.tenant, begun.token_id, begun.trace_id) == ("lab", "t7", "trace-7")
    assert (ended.event, ended.fields["of"], ended.fields["ended"]) == ("end", "1", "done")


async def test_refused_call_ends_with_its_reason(tmp_path: Path) -> None:
    """A typed error, a fault of ours, a caller that hung up: each is said in the second line."""
    audit = await AuditLog.open(tmp_path, TrioClock())
    node = FakeNode()
    calls = dispatcher(audit, node)
    node.answers["node_stop"] = Full("no room")
    with pytest.raises(Full):
        await calls.call("node_stop", NoParams(), LAB)
    node.answers["node_stop"] = ValueError("ours")
    with pytest.raises(ValueError, match="ours"):
        await calls.call("node_stop", NoParams(), LAB)
    node.before["node_stop"] = trio.sleep_forever
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(calls.call, "node_stop", NoParams(), LAB)
            await node.wait_calls(3)
            scope.cancel()
    ends = [line.fields["ended"] for line in await audit.newest(9) if line.event == "end"]
    assert ends == ["cancelled", "internal", "disk_full"]


async def test_nothing_is_done_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refuses the first line: the handler does not run; reads go on."""
    audit = await AuditLog.open(tmp_path, TrioClock())
    node = FakeNode()
    calls = dispatcher(audit, node)

    def refuse(_line: bytes) -> None:
        raise Full("no room")

    monkeypatch.setattr(audit, "_append", refuse)
    with pytest.raises(Full):
        await calls.call("node_stop", NoParams(), LAB)
    assert node.calls == []
    await calls.call("node_getStatus", NoParams(), LAB)
    assert len(node.calls) == 1


async def test_every_method_that_changes_as_admin_or_signs_is_written(tmp_path: Path) -> None:
    """Walk the table: a line for each of the two scopes but for what only reads."""
    audit = await AuditLog.open(tmp_path, TrioClock())
    silent = set()
    for method in METHODS.values():
        before = audit.root.seq

        async def go(_ask: Ask) -> None:
            return None

        ask = Ask(method, method.example or method.params(), LAB)
        await Auditing(audit).layer(ask, go)
        if audit.root.seq == before and method.scope in {Scope.ADMIN, Scope.SIGN}:
            silent.add(method.name)
    verbs = {name.partition("_")[2][:3] for name in silent}
    assert verbs <= {"lis", "get", "ver", "who"}, silent


def test_no_secret_reaches_a_line() -> None:
    """By name, and by bytes the node was told to guard; long parameters are cut."""
    assert SECRET not in shown(UnlockParams(SECRET))
    logs.secrets.guard(SECRET.encode())
    assert SECRET not in shown(BanParams("12D3KooW" + "A" * 44, why=f"it said {SECRET}"))
    assert len(shown(BanParams("12D3KooW" + "A" * 44, why='"' * 200))) < 2_100


@dataclass
class Vouched:
    audit: AuditLog
    anchors: Anchors
    api: AuditApi
    parts: ChainParts
    folder: Path

    async def verify(self, *tx_ids: str) -> AuditVerdict:
        return await self.api.verify(AuditVerifyParams(tx_ids), LAB)

    async def anchored(self) -> str:
        """Anchor and wait for the block; the transaction."""
        entry = await self.anchors.anchor()
        tx_id = TxId(parse_hex(entry.subject, size=32, what="tx"))
        await self.parts.wallet.wait_committed(tx_id)
        return entry.subject


@pytest.fixture
async def vouched(tmp_path: Path) -> AsyncIterator[Vouched]:
    cluster = make_cluster(tmp_path, validators=1)
    folder = tmp_path / "audit"
    folder.mkdir()
    async with cluster.node(0) as parts:
        audit = await AuditLog.open(folder, TrioClock())
        anchors = Anchors(audit, parts.wallet, parts.driver, every_ms=10)
        yield Vouched(audit, anchors, AuditApi(audit, anchors), parts, folder)


async def _call(audit: AuditLog, name: str = "node_stop") -> None:
    await dispatcher(audit, FakeNode()).call(name, NoParams(), LAB)


async def test_root_on_the_ledger_vouches_for_the_log(vouched: Vouched) -> None:
    """Anchored, held; nothing new is refused; after more calls it is anchored again."""
    with pytest.raises(NothingNew):
        await vouched.anchors.anchor()
    await _call(vouched.audit)
    tx_id = await vouched.anchored()
    verdict = await vouched.verify()
    assert verdict.ok
    assert (verdict.anchored, verdict.last) == (2, 3)
    assert [(one.tx_id, one.state) for one in verdict.anchors] == [(tx_id, "held")]
    await _call(vouched.audit, "audit_anchor")  # what asks for an anchor is no news
    with pytest.raises(NothingNew):
        await vouched.anchors.anchor()
    await _call(vouched.audit)
    await vouched.anchored()
    assert (await vouched.verify()).anchored > 3


async def test_log_written_anew_differs_from_its_anchor(vouched: Vouched) -> None:
    """Every line replaced, every hash right: the chain holds, the ledger says no."""
    await _call(vouched.audit)
    tx_id = await vouched.anchored()
    path = vouched.folder / "audit.log"
    made, prev = [], ""
    for line in await trio.to_thread.run_sync(_lines, path):
        entry = msgspec.json.decode(line, type=Entry)
        entry = msgspec.structs.replace(entry, who="somebody else", prev=prev or entry.prev)
        entry = msgspec.structs.replace(entry, hash=hash_of(entry))
        prev = entry.hash
        made.append(encode_line(entry))
    await trio.to_thread.run_sync(path.write_bytes, b"".join(made))
    verdict = await vouched.verify()
    assert verdict.broken_at == 0
    assert not verdict.ok
    assert verdict.anchors[0].state == "differs"
    # Without its lines the log knows no anchor; one who kept the transaction's id does.
    await trio.to_thread.run_sync(path.write_bytes, made[0])
    assert (await vouched.verify()).ok
    assert not (await vouched.verify(tx_id)).ok


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


async def test_other_transactions_are_no_anchors(vouched: Vouched) -> None:
    """An id nobody knows is doubted when given."""
    verdict = await vouched.verify("0x" + "07" * 32)
    assert not verdict.ok
    assert verdict.anchors[0].state == "unknown"


async def test_old_lines_are_anchored_by_themselves(
    vouched: Vouched, nursery: trio.Nursery
) -> None:
    """With a short time between anchors, one is sent without being asked for."""
    await _call(vouched.audit)
    await nursery.start(vouched.anchors.run)
    while not await vouched.audit.anchors():
        await vouched.parts.driver.wait_height(vouched.parts.driver.ledger.height + 1)
    nursery.cancel_scope.cancel()


async def test_pages_meet(tmp_path: Path) -> None:
    """Pages of three over eight lines: all of them once; a foreign cursor is refused."""
    audit = await AuditLog.open(tmp_path, TrioClock())
    for _ in range(4):
        await _call(audit)
    api = AuditApi(audit, None)  # type: ignore[arg-type]  # the list asks no ledger
    seen: list[int] = []
    cursor = ""
    while True:
        page = await api.list(AuditListParams(3, cursor), LAB)
        seen += [line.seq for line in page.items]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert seen == list(range(8, 0, -1))
    with pytest.raises(BadParams):
        await api.list(AuditListParams(3, "-1"), LAB)


async def test_memo_reads_back_and_others_do_not(tmp_path: Path) -> None:
    """The root in 51 bytes of a memo; any other memo is none."""
    audit = await AuditLog.open(tmp_path, TrioClock())
    await _call(audit)
    memo = memo_of(audit.root)
    assert root_of(memo) == audit.root
    assert len(memo) <= 64
    for other in (b"", memo[:-1], memo + b"x", b"x" + memo[1:]):
        assert root_of(other) is None
