"""What is audited, and what vouches for the log: its root, written to the ledger now and then.

Each call that asks for `admin` or `sign` has two lines: one before its handler runs, so that
nothing is done unseen, and one with how it ended. The root goes to the ledger in the memo of a
transfer of one micro-FTNS from the node's account to itself: no kind of its own is needed, and
every node keeps it. Source: docs/spec/rpc.md, "Audit log".

Knows: calls, the log, the payment key, the ledger. Must not know: transports, files.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

import msgspec
import trio

from prsm.node.callers.audit import AuditLog, Entry, Note, Root
from prsm.node.chain.driver import Driver
from prsm.node.chain.history import block_of
from prsm.node.chain.wallet import TxResult, Wallet
from prsm.node.rpc.dispatch import Ask, Go
from prsm.node.rpc.errors import only_leaf
from prsm.node.rpc.spec import Scope
from prsm.node.telemetry import logs
from prsm.protocol.codec import decode
from prsm.protocol.errors import LocalError, PrsmError, WireError
from prsm.protocol.ids import FTNS, TxId, address_text, parse_hex
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.transactions.envelope import decode_transaction
from prsm.protocol.transactions.payloads import TRANSFER, Transfer
from prsm.protocol.transactions.results import Code

MARK: Final = b"prsm-audit1"
_AUDITED: Final = frozenset((Scope.ADMIN, Scope.SIGN))
_READING: Final = re.compile(r"[a-z]+_(list|get|verify|whoami)([A-Z]\w*)?")
_RESULT_FIELDS: Final = ("tx_id", "task_id", "id", "name", "cid", "address", "deal", "hold")
_PARAMS_CHARS_MAX: Final = 2_000
_LOOK_S: Final = 60.0
ANCHORS_CHECKED_MAX: Final = 64
_OWN: Final = "audit_anchor"
_NEWS_LOOKED_AT: Final = 64  # newest lines in which something is news

AnchorState = Literal["held", "pending", "differs", "unknown"]

log: Final = logs.get("audit")


class NothingNew(LocalError):
    """The root of the audit log is on the ledger already."""

    reason = "nothing_new"


def is_audited(method_name: str, scope: Scope) -> bool:
    """Does a call have lines in the log? Those that only read have none."""
    return scope in _AUDITED and not _READING.fullmatch(method_name)


class Auditing:
    """The layer around calls that writes them down."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    async def layer(self, ask: Ask, go: Go) -> object:
        """Write what is asked, let it be done, write how it ended.

        Raises:
            Full, StoreUnavailable: the first line cannot be written: nothing is done.
            Exception: what the handler raises.
        """
        if not is_audited(ask.method.name, ask.method.scope):
            return await go(ask)
        caller = ask.caller
        note = Note(
            event="call",
            who=caller.name[:128],
            subject=ask.method.name,
            tenant=caller.tenant,
            token_id=caller.token_id,
            trace_id=caller.trace_id,
        )
        begun = await self._audit.write(note, {"params": shown(ask.params)})
        try:
            result = await go(ask)
        except BaseException as error:
            # Also of a caller that hung up: what was begun has an end in the log.
            await self._end(begun, note, {"ended": _reason(error)})  # noqa: ASYNC102 - it shields itself
            raise
        await self._end(begun, note, {"ended": "done", **_ids(result)})
        return result

    async def _end(self, begun: Entry, note: Note, fields: dict[str, str]) -> None:
        ended = replace(note, event="end")
        try:
            with trio.CancelScope(shield=True):  # bounded: one write to a local file
                await self._audit.write(ended, {"of": str(begun.seq), **fields})
        except LocalError as error:
            # It is done: saying otherwise would be worse than a line without its end.
            log.error("end of a call is not noted", method=note.subject, why=error.what)  # noqa: TRY400 - the reason is in it


@dataclass(frozen=True, slots=True)
class Anchor:
    """A root as the ledger has it, against the line of the same number here."""

    tx_id: str
    seq: int
    hash: str
    height: int | None
    state: AnchorState
    why: str


class Anchors:
    """Writes the root to the ledger, and compares what is there with the log."""

    def __init__(self, audit: AuditLog, wallet: Wallet, driver: Driver, *, every_ms: int) -> None:
        """Nothing is sent yet; `every_ms` 0: never by itself."""
        self._audit, self._wallet, self._driver = audit, wallet, driver
        self._every_ms = every_ms
        self._last: Entry | None = None  # the newest line of an anchor, once it was read
        self._is_read = False

    async def anchor(self) -> Entry:
        """Send the root to the ledger; the line that says so.

        Raises:
            NothingNew: nothing was written since the last anchor.
            WalletLocked, LocalError: the node's account cannot pay for it now.
        """
        root = self._audit.root
        if not await self._has_news():
            raise NothingNew(
                f"the root of line {root.seq} is on the ledger already",
                hint="see: prsm audit verify",
            )
        to = self._wallet.address
        payload = Transfer(asset=FTNS, to=to, amount=1, memo=memo_of(root))
        tx_id = address_text(await self._wallet.submit(TRANSFER, payload))
        fields = {"seq": str(root.seq), "hash": root.hash, "account": address_text(to)}
        self._last = await self._audit.write(Note("anchor", "node", subject=tx_id), fields)
        return self._last

    async def check(self, tx_ids: Sequence[str] = ()) -> list[Anchor]:
        """Compare anchors with the log: those it names, newest first, and those that are given.

        A log that was written anew is found by an anchor somebody kept elsewhere.
        """
        noted = [entry.subject for entry in await self._audit.anchors()]
        asked = dict.fromkeys((*tx_ids, *reversed(noted)))
        return [await self._check(tx_id) for tx_id in list(asked)[:ANCHORS_CHECKED_MAX]]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Anchor what is older than the time between anchors, until cancelled."""
        task_status.started()
        while self._every_ms:
            await trio.sleep(min(_LOOK_S, self._every_ms / 1000))
            if self._wallet.is_locked or not await self._is_due():
                continue
            try:
                entry = await self.anchor()
            except LocalError as error:
                log.warning("audit root not anchored", why=error.what)
            else:
                log.info("audit root anchored", tx_id=entry.subject, seq=entry.fields["seq"])

    async def _newest_anchor(self) -> Entry | None:
        if not self._is_read:
            noted = await self._audit.anchors()
            self._last, self._is_read = (noted[-1] if noted else None), True
        return self._last

    async def _has_news(self) -> bool:
        last = await self._newest_anchor()
        since = last.seq if last else 0
        if self._audit.root.seq == since:
            return False
        # Lines about anchoring are no news, nor are ends of what was news before.
        newer = await self._audit.newest(_NEWS_LOOKED_AT)
        return any(e.seq > since and e.event != "end" and e.subject != _OWN for e in newer)

    async def _is_due(self) -> bool:
        if not await self._has_news():
            return False
        last = await self._newest_anchor()
        first = await self._audit.entry(last.seq + 1 if last else 1)
        return first is None or self._driver.clock.wall_ms() - _millis(first.ts) >= self._every_ms

    async def _check(self, tx_id: str) -> Anchor:
        raw = TxId(parse_hex(tx_id, size=32, what="transaction id"))
        found = await self._wallet.find(raw)
        if found is None:
            is_sent = self._wallet.pending(raw) is not None
            state: AnchorState = "pending" if is_sent else "unknown"
            return Anchor(tx_id, 0, "", None, state, "" if is_sent else "not on the ledger")
        root = await self._root_of(found)
        if root is None:
            return Anchor(tx_id, 0, "", found.height, "unknown", "no anchor of this node's log")
        line = await self._audit.entry(root.seq)
        if line is not None and line.hash == root.hash:
            return Anchor(tx_id, root.seq, root.hash, found.height, "held", "")
        why = f"line {root.seq} has " + (f"the hash {line.hash}" if line else "been removed")
        return Anchor(tx_id, root.seq, root.hash, found.height, "differs", why)

    async def _root_of(self, found: TxResult) -> Root | None:
        stored = await self._driver.store.block(found.height)
        if stored is None or found.receipt.code is not Code.DONE:
            return None
        sent = decode_transaction(block_of(stored).body.transactions[found.index])
        if sent.kind != TRANSFER or sent.sender != self._wallet.address:
            return None
        try:
            payload = decode(sent.payload, Transfer, size_max=TRANSACTION_BYTES_MAX)
        except WireError:
            return None
        return root_of(payload.memo)


def memo_of(root: Root) -> bytes:
    """A root as the memo of a transfer: mark, number (8 bytes), hash."""
    return MARK + root.seq.to_bytes(8, "big") + bytes.fromhex(root.hash[2:])


def root_of(memo: bytes) -> Root | None:
    """The root in a memo; None if it is another memo."""
    if not memo.startswith(MARK) or len(memo) != len(MARK) + 40:
        return None
    body = memo[len(MARK) :]
    return Root(int.from_bytes(body[:8], "big"), "0x" + body[8:].hex())


def shown(params: msgspec.Struct) -> str:
    """Parameters as they may be written down: no secret by name or by bytes, and not for ever."""
    plain = msgspec.to_builtins(params)
    text = msgspec.json.encode(logs.secrets(None, "", dict(plain))).decode()
    return text if len(text) <= _PARAMS_CHARS_MAX else text[:_PARAMS_CHARS_MAX] + "…"


def _ids(result: object) -> dict[str, str]:
    """What a call made, by name."""
    found = {name: getattr(result, name, None) for name in _RESULT_FIELDS}
    return {name: value[:256] for name, value in found.items() if isinstance(value, str)}


def _reason(error: BaseException) -> str:
    error = only_leaf(error)
    if isinstance(error, PrsmError):
        return error.reason
    return "internal" if isinstance(error, Exception) else "cancelled"


def _millis(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)
