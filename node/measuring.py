"""What each room says of itself to the metrics: gauges are asked for, events are told.

Knows: every room that counts, and the names of the table. Must not know: who reads the numbers.
"""

import functools
import re
from typing import Final

import trio

from prsm.consensus.ledger.context import CaseClosed, DealChanged, Punished
from prsm.consensus.pbft.opened import Opened as OpenedMessage
from prsm.consensus.pbft.transitions import Phase
from prsm.node.chain.chain import ChainParts
from prsm.node.chain.driver import Head
from prsm.node.chain.rounds import Passed, Rounds, ViewLost
from prsm.node.clock import utc_text
from prsm.node.memory import rss_bytes
from prsm.node.rpc.dispatch import Ask, Go, Layer
from prsm.node.rpc.methods import subscriptions as rows
from prsm.node.rpc.reasons import entry_for
from prsm.node.rpc.spec import Scope
from prsm.node.supervise import Supervisor
from prsm.node.telemetry import logs, metrics, traces
from prsm.node.telemetry.alerts import Change, watch
from prsm.node.telemetry.lag import LoopLag
from prsm.node.telemetry.metrics import Metrics
from prsm.node.telemetry.pager import Pager
from prsm.node.version import VERSION, commit
from prsm.node.work.workshop import Opened, Workshop
from prsm.protocol.errors import PrsmError
from prsm.protocol.transactions.payloads import PAYLOADS
from prsm.protocol.transactions.results import Code

ROW_S: Final = 1.0
SPACE_S: Final = 15.0  # between two looks at the store: it asks a database
PHASES: Final = {
    Phase.WAITING: "proposal",
    Phase.JUDGING: "judging",
    Phase.PREPARING: "prepared",
    Phase.COMMITTING: "committed",
    Phase.CHANGING: "view_change",
    Phase.EXECUTING: "executing",
}
# Decoding thousands of transactions a second for one word of each would cost a hundredth of a core.
_KIND_AT: Final = 12  # behind the array's head, the version, and a chain id of 8 bytes
_CODE_AT: Final = 35  # behind the array's head and the transaction's id
_UINT8: Final = 0xCC
_TRACE: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_LINE: Final = frozenset(("ts", "level", "room", "event"))
_KINDS: Final = {
    number: re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
    for number, cls in PAYLOADS.items()
}
_CODES: Final = {int(code): code.name.lower() for code in Code}
assert max(*_KINDS, *_CODES) < 256


class Measures:
    """Joins one node's rooms to its metrics.

    Args:
        opened: the rooms the daemon opened.
        work: the rooms that do work.
        numbers: where they count.

    Attributes:
        lag: of the loop.
        rounds: the course of agreement.
    """

    def __init__(self, opened: Opened, work: Workshop, numbers: Metrics) -> None:
        self._opened, self._work, self.metrics = opened, work, numbers
        self.lag = LoopLag(functools.partial(numbers.observe, "prsm_loop_lag_seconds"))
        self.rounds = Rounds()
        self._entry = trio.lowlevel.current_trio_token()
        self._slashed: dict[bytes, int] = {}  # of custody deals: what was counted of each
        driver = opened.chain.driver
        driver.on_head.append(self._see_head)
        driver.on_vote.append(self._see_vote)
        driver.on_step.append(lambda state, now_ms: self.rounds.look(state.instance, now_ms))
        self.rounds.on_phase.append(self._see_phase)
        self.rounds.on_view_lost.append(self._see_lost)
        self._events, self._clock = work.feed.events, driver.clock
        config = opened.start.config
        self._pager = Pager(config.alerts.notify, config.alerts.least, node=config.node.name)
        self.alerts = watch(
            numbers,
            worst_lag_s=lambda: self.lag.worst_s,
            wall_ms=driver.clock.wall_ms,
            tell=self._tell_alert,
        )
        for reader in (_read_node, _read_net, _read_chain, _read_work):
            numbers.on_read(functools.partial(reader, opened, work))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Measure what has to be asked for again and again."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.lag.run)
            await nursery.start(self.alerts.run)
            await nursery.start(Supervisor("pager").run, self._pager.run)
            nursery.start_soon(self._look_at_store)
            nursery.start_soon(self._tell_numbers)
            with logs.listening(self._hear_line):
                task_status.started()
                await trio.sleep_forever()

    async def _look_at_store(self) -> None:
        numbers, store = self.metrics, self._opened.store
        while True:
            space = await store.space()
            for kind, size in (
                ("files", space.used.files),
                ("partial", space.used.partial),
                ("damaged", space.used.bad),
                ("blocks", space.used.blocks),
                ("reserved", space.reserved_bytes),
                ("pinned", space.pinned_bytes),
                ("leased", space.leased_bytes),
            ):
                numbers.put("prsm_storage_bytes", size, kind)
            numbers.put("prsm_storage_quota_bytes", space.quota_bytes)
            await trio.sleep(SPACE_S)

    async def _tell_numbers(self) -> None:
        numbers = self.metrics
        while True:
            await trio.sleep(ROW_S)
            self._events.publish(
                "metrics",
                rows.MetricRow(
                    loop_lag_ms=round(self.lag.worst_s * 1000, 1),
                    rss_bytes=rss_bytes(),
                    peers=len(self._opened.network.peers()),
                    height=self._opened.chain.driver.ledger.height,
                    view=self._opened.chain.driver.state.instance.view,
                    mempool=len(self._opened.chain.driver.mempool),
                    jobs_running=self._work.jobs.running,
                    rpc_in_flight=int(numbers.value("prsm_rpc_in_flight")),
                ),
            )

    def _tell_alert(self, change: Change) -> None:
        rule = change.rule
        self._events.publish(
            "alerts",
            rows.AlertRow(
                name=rule.name,
                severity=rule.severity,
                state="firing" if change.is_firing else "over",
                since=utc_text(change.since_ms),
                text=rule.text,
            ),
        )
        self._pager.tell(change)

    def _hear_line(self, line: logs.Event) -> None:
        """A line of the log, from any thread and any task: the loop tells it when it is back."""
        level = str(line.get("level", ""))
        self.metrics.inc("prsm_log_lines_total", level)
        fields = {key: value for key, value in line.items() if key not in _LINE}
        row = rows.LogRow(
            *(str(line.get("ts", "")), level, str(line.get("room", ""))),
            *(str(line.get("event", "")), fields),
        )
        try:
            self._entry.run_sync_soon(self._events.publish, "logs", row)
        except trio.RunFinishedError:
            return  # the last lines of a process: nobody listens any more

    # -- told by agreement

    def _see_head(self, head: Head) -> None:
        numbers = self.metrics
        transactions = head.block.body.transactions
        numbers.observe("prsm_block_transactions", len(transactions))
        if head.certificate.view:
            numbers.inc("prsm_consensus_missed_proposals_total", by=head.certificate.view)
        for raw, receipt in zip(transactions, head.outcome.receipts, strict=True):
            numbers.inc("prsm_tx_total", kind_of(raw), result_of(receipt))
        for event in head.outcome.events:
            match event:
                case Punished(penalty=lost) | CaseClosed(slashed=lost) if lost:
                    numbers.inc("prsm_slashed_base_units_total", by=lost)
                case DealChanged(deal=deal, slashed=lost):  # a running sum of the deal
                    before = self._slashed.get(deal, 0)
                    if lost > before:
                        self._slashed[deal] = lost
                        numbers.inc("prsm_slashed_base_units_total", by=lost - before)
                case _:
                    pass

    def _see_vote(self, opened: OpenedMessage) -> None:
        self.metrics.inc("prsm_consensus_votes_total", opened.message.kind.name.lower())

    def _see_phase(self, passed: Passed) -> None:
        name = PHASES.get(passed.phase)
        if name is not None:
            took_s = passed.took_ms / 1000
            self.metrics.observe("prsm_consensus_round_duration_seconds", took_s, name)

    def _see_lost(self, lost: ViewLost) -> None:
        self.metrics.inc("prsm_consensus_view_changes_total", lost.reason)


def count_calls(numbers: Metrics) -> Layer:
    """Make the layer that counts calls and their time.

    Args:
        numbers: where they are counted.
    """

    async def layer(ask: Ask, go: Go) -> object:
        began, name = trio.current_time(), ask.method.name
        code = entry_for("internal").code
        numbers.put("prsm_rpc_in_flight", numbers.value("prsm_rpc_in_flight") + 1)
        try:
            result = await go(ask)
            code = 0
        except PrsmError as error:
            code = entry_for(error.reason).code
            raise
        finally:
            numbers.put("prsm_rpc_in_flight", numbers.value("prsm_rpc_in_flight") - 1)
            numbers.inc("prsm_rpc_requests_total", name, str(code))
            numbers.observe("prsm_rpc_duration_seconds", trio.current_time() - began, name)
        return result

    return layer


async def trace_call(ask: Ask, go: Go) -> object:
    """Begin a trace for a call that changes something; a layer around every handler."""
    method, given = ask.method, ask.caller.trace_id
    if method.scope is Scope.READ:
        return await go(ask)
    trace = bytes.fromhex(given) if _TRACE.fullmatch(given) else b""
    words = {"rpc__system": "jsonrpc", "rpc__method": method.name, "prsm__request": given}
    with traces.first(f"rpc {method.name}", trace, **words):
        return await go(ask)


def kind_of(raw: bytes) -> str:
    """What a transaction of a block does, in words: canonical bytes have its kind in one place."""
    return _KINDS.get(_small_uint(raw, _KIND_AT), metrics.OTHER)


def result_of(receipt: bytes) -> str:
    """The name of a receipt's code, from the place canonical bytes have it in."""
    return _CODES.get(_small_uint(receipt, _CODE_AT), metrics.OTHER)


def _small_uint(raw: bytes, at: int) -> int:
    """A msgpack integer below 256."""
    return raw[at + 1] if raw[at] == _UINT8 else raw[at]


def _read_node(opened: Opened, _work: Workshop, numbers: Metrics) -> None:
    numbers.put("prsm_build_info", 1, VERSION, commit())
    numbers.put("prsm_node_up", 0 if opened.chain.driver.is_halted else 1)
    numbers.put("prsm_node_syncing", int(opened.chain.sync.is_syncing))
    busy = trio.to_thread.current_default_thread_limiter().borrowed_tokens
    numbers.put("prsm_thread_pool_busy", busy)
    numbers.put("prsm_loop_tasks", trio.lowlevel.current_statistics().tasks_living)
    numbers.put("prsm_disk_free_bytes", opened.guard.report().free_bytes)
    for name, keeper in opened.chain.keepers.items():
        numbers.put("prsm_part_restarts_total", keeper.restarts, name)
    numbers.put("prsm_part_restarts_total", opened.network.restarts, "network")


def _read_net(opened: Opened, _work: Workshop, numbers: Metrics) -> None:
    peers = opened.network.peers()
    outbound = sum(peer.outbound for peer in peers)
    numbers.put("prsm_peers", outbound, "out")
    numbers.put("prsm_peers", len(peers) - outbound, "in")
    members = opened.chain.driver.validators.validators
    others = [member for member in members if member.peer_id != opened.network.peer_id]
    numbers.put("prsm_peers_expected", int(bool(others or opened.start.config.net.bootstrap)))


def _read_chain(opened: Opened, _work: Workshop, numbers: Metrics) -> None:
    chain: ChainParts = opened.chain
    driver = chain.driver
    numbers.put("prsm_consensus_height", driver.ledger.height)
    numbers.put("prsm_consensus_view", driver.state.instance.view)
    numbers.put("prsm_mempool_size", len(driver.mempool))
    numbers.put("prsm_mempool_bytes", driver.mempool.size_bytes)
    supply = driver.ledger.view.supply()
    numbers.put("prsm_state_bucket_entries", chain.snapshots.bucket_entries)
    numbers.put("prsm_ledger_supply_base_units", supply.minted - supply.burnt)


def _read_work(_opened: Opened, work: Workshop, numbers: Metrics) -> None:
    numbers.put("prsm_jobs_running", work.jobs.running)
    events = work.feed.events
    for topic, count in events.subscribers().items():
        numbers.put("prsm_ws_subscriptions", count, topic)
    numbers.put("prsm_ws_dropped_total", events.dropped)
