"""What the rooms of a node do, as rows for whoever listens.

Knows: the hooks of agreement, peers, jobs, generations, tasks, models. Must not know: who listens,
transports. What is no event by itself (bytes on their way, rows done) is looked at each second,
and only while somebody listens.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import trio

from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.state import State
from prsm.consensus.pbft.transitions import Phase
from prsm.node.api.tasks import task_info
from prsm.node.api.work import job_row
from prsm.node.chain.driver import Driver, Head
from prsm.node.clock import utc_text
from prsm.node.inference.generate.generation import Generation
from prsm.node.inference.generate.service import Generations
from prsm.node.inference.job import JobView
from prsm.node.inference.jobs import Jobs
from prsm.node.models import Models, Task, TaskState
from prsm.node.net.interface import Network, PeerEvent, PeerInfo
from prsm.node.peers.discovery import Discovery
from prsm.node.rpc.methods import subscriptions as api
from prsm.node.telemetry.events import Events
from prsm.protocol.ids import PeerId, address_text
from prsm.protocol.signing import Kind
from prsm.storage.cid import Cid

_Name = TypeVar("_Name", bytes, str)
LOOK_S: Final = 1.0
_RoundPhase = Literal["proposal", "prepared", "committed", "view_change"]
_PHASES: Final[dict[Phase, _RoundPhase]] = {
    Phase.JUDGING: "proposal",
    Phase.PREPARING: "proposal",
    Phase.COMMITTING: "prepared",
    Phase.EXECUTING: "committed",
    Phase.CHANGING: "view_change",
}
_VoteKind = Literal["proposal", "prepare", "commit", "view_change"]
_VOTES: Final[dict[Kind, _VoteKind]] = {
    Kind.PROPOSE: "proposal",
    Kind.PREPARE: "prepare",
    Kind.COMMIT: "commit",
    Kind.VIEW_CHANGE: "view_change",
}


@dataclass(frozen=True, slots=True)
class Rooms:
    """What is listened to."""

    driver: Driver
    network: Network
    discovery: Discovery
    jobs: Jobs
    generations: Generations
    models: Models


class Feed:
    """Tells the rows of all topics but those of metrics, alerts and logs.

    Args:
        rooms: not running yet.
        events: where rows are told.
    """

    def __init__(self, rooms: Rooms, events: Events) -> None:
        self.events = events
        self._rooms = rooms
        self._clock = rooms.driver.clock
        self._round: tuple[int, int, _RoundPhase] | None = None
        self._sent: tuple[int, int] = (0, 0)  # height, own votes told
        self._peers: dict[PeerId, PeerInfo] = {}
        self._known: frozenset[PeerId] = frozenset()
        self._held: dict[Cid, str] = {}
        self._progress: dict[str, int] = {}
        self._rows: dict[bytes, int] = {}
        rooms.driver.on_head.append(self._hear_head)
        rooms.driver.on_step.append(self._hear_step)
        rooms.driver.on_vote.append(self._hear_vote)
        rooms.network.on_peer(self._hear_peer)
        rooms.jobs.on_change.append(self._hear_job)
        rooms.generations.on_text.append(self._hear_text)
        rooms.models.tasks.on_change.append(self._hear_task)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look at what moves by itself, until cancelled."""
        self._known, self._held = self._book(), self._models()
        task_status.started()
        while True:
            await trio.sleep(LOOK_S)
            self._peers = {info.peer: info for info in self._rooms.network.peers()}
            self._look_book()
            self._look_models()
            if self.events.is_heard("transfers"):
                self._look_tasks()
            if self.events.is_heard("jobs"):
                self._look_jobs()

    # -- agreement

    def _hear_head(self, head: Head) -> None:
        header = head.block.header
        self.events.publish(
            "heads",
            api.HeadRow(
                height=header.height,
                hash=address_text(head.certificate.block_hash),
                time=utc_text(header.time_ms),
                proposer=header.proposer,
                view=head.certificate.view,
                transactions=len(head.block.body.transactions),
                state_root=address_text(self._rooms.driver.ledger.state_root),
            ),
        )

    def _hear_step(self, state: State, _now_ms: int) -> None:
        instance = state.instance
        said = (instance.height, len(instance.sent))
        if said != self._sent:
            known = self._sent[1] if said[0] == self._sent[0] else 0
            self._sent = said
            for opened in tuple(instance.sent.values())[known:]:
                self._hear_vote(opened)
        phase = _PHASES.get(instance.phase)
        if phase is None or self._round == (instance.height, instance.view, phase):
            return
        self._round = (instance.height, instance.view, phase)
        self.events.publish(
            "rounds",
            api.RoundRow(
                height=instance.height,
                view=instance.view,
                proposer=instance.schedule.at(instance.view),
                phase=phase,
                at_ms=self._clock.wall_ms(),
            ),
        )

    def _hear_vote(self, opened: Opened) -> None:
        message = opened.message
        kind = _VOTES.get(message.kind)
        if kind is not None:
            at_ms = self._clock.wall_ms()
            row = api.VoteRow(message.height, message.view, kind, message.signer, at_ms)
            self.events.publish("votes", row)

    # -- peers

    def _hear_peer(self, event: PeerEvent) -> None:
        if event.up:
            self._peers = {info.peer: info for info in self._rooms.network.peers()}
        info = self._peers.get(event.peer)
        word: Literal["linked", "banned", "lost"] = "linked"
        if not event.up:
            word = "banned" if event.is_banned else "lost"
        self.events.publish(
            "peers",
            api.PeerRow(
                peer=event.peer,
                event=word,
                address="" if info is None else info.address,
                direction="" if info is None else "out" if info.outbound else "in",
                why=event.why,
            ),
        )

    def _book(self) -> frozenset[PeerId]:
        return frozenset(entry.place.peer for entry in self._rooms.discovery.book)

    def _look_book(self) -> None:
        known = self._book()
        new, self._known = known - self._known, known
        for peer in sorted(new):
            entries = self._rooms.discovery.book.of_peer(peer)
            address = entries[0].place.text if entries else ""
            self.events.publish("peers", api.PeerRow(peer, "discovered", address, ""))

    # -- work

    def _hear_job(self, view: JobView) -> None:
        self._rows[view.id] = view.rows_done
        self.events.publish("jobs", job_row(view, self._rooms.driver.ledger.view))

    def _look_jobs(self) -> None:
        for view in self._rooms.jobs.at_work():
            if self._rows.get(view.id, view.rows_done) != view.rows_done:
                self._hear_job(view)

    def _hear_text(self, one: Generation, text: str) -> None:
        failed: Literal["failed"] | None = "failed" if one.error is not None else None
        self.events.publish(
            "tokens",
            api.TokenRow(
                job_id=address_text(one.id),
                tokens=len(one.tokens),
                text=text,
                is_over=one.is_over,
                finish=one.finish or failed,
            ),
        )

    def _hear_task(self, task: Task) -> None:
        self._progress[task.id] = task.meter.done
        self.events.publish("transfers", task_info(task))

    def _look_tasks(self) -> None:
        tasks = self._rooms.models.tasks.list()
        for task in tasks:
            is_running = task.state is TaskState.RUNNING
            if is_running and self._progress.get(task.id) != task.meter.done:
                self._hear_task(task)
        _keep(self._progress, (task.id for task in tasks))

    # -- models

    def _models(self) -> dict[Cid, str]:
        return self._rooms.models.names()

    def _look_models(self) -> None:
        before, self._held = self._held, self._models()
        for cid in before.keys() - self._held.keys():
            self.events.publish("models", api.ModelRow(before[cid], str(cid), "gone"))
        for cid in self._held.keys() - before.keys():
            self.events.publish("models", api.ModelRow(self._held[cid], str(cid), "held"))
        _keep(self._rows, self._rooms.jobs.ids())


def _keep(table: dict[_Name, int], names: Iterable[_Name]) -> None:
    """Forget what is not there any more."""
    for gone in table.keys() - set(names):
        del table[gone]
