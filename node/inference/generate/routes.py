"""Who does which stage of a generation under which lock: a main route, a spare, further ones.

A route is one open-ended job: a unit of one worker for each stage. The spare is locked beside the
main one and paid only for what is done under it, so that a lost stage is taken over without waiting
for a block. Must not know tokens. Source: docs/spec/work.md, "Generation".
"""

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import trio

from prsm.node.inference.capacity import ask_all
from prsm.node.inference.commits import NoBlock, commit
from prsm.node.inference.generate.course import NoSubstitute
from prsm.node.inference.generate.moving import LEAVES
from prsm.node.inference.generate.route import Route, Wanted, lay_out
from prsm.node.inference.generate.stage import RemoteStage, Seat, Stage
from prsm.node.inference.generate.worker import UnknownSession
from prsm.node.inference.interface import JobClosed, ReceiptStore
from prsm.node.inference.links import Links, WorkerLost
from prsm.node.inference.market import Market
from prsm.node.inference.refusals import ClassMissing, PlanRefused, PriceOverCap
from prsm.node.inference.wishes import WorkerOffer
from prsm.node.net.interface import PeerUnreachable
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.ids import FTNS, format_ftns
from prsm.protocol.messages.pipe import WorkerFailed
from prsm.protocol.receipts import WorkReceipt
from prsm.protocol.transactions.payloads import LOCK, Lock

# A worker that was restarted is back within seconds; a reader waits that long.
ANOTHER_TRIES: Final = 5
ANOTHER_WAIT_S: Final = 2.0

log = logging.getLogger(__name__)


class Routes:
    """The locked routes of one generation; says who takes over a lost stage.

    Args:
        links: conversations of this node as a requester.
        wanted: what is needed.
        notes: where ids of jobs survive this process until nothing is locked in them.
        market: what this node knows of workers; who fails here is left out of its next plans.
        new_id: makes 32-byte job ids; random outside tests.
    """

    def __init__(
        self,
        links: Links,
        wanted: Wanted,
        notes: ReceiptStore,
        market: Market,
        *,
        new_id: Callable[[], bytes] = lambda: secrets.token_bytes(32),
    ) -> None:
        self._links, self._wanted, self._notes = links, wanted, notes
        self._market, self._new_id = market, new_id
        self.locked: list[Route] = []
        self.sent: list[Route] = []  # a block may take their locks yet; nobody works for them
        self.used: list[RemoteStage] = []  # the last one of each seat, but the retired
        self.shown: list[WorkReceipt] = []  # of the retired
        self._avoid: dict[int, set[bytes]] = {}  # stage -> workers that lost it
        self._again: set[tuple[int, bytes]] = set()  # who got a second try

    @property
    def amount(self) -> int:
        """Micro-FTNS all locks hold, or may hold."""
        return sum(route.amount for route in (*self.locked, *self.sent))

    async def lock(self, *, has_spare: bool) -> None:
        """Ask who is there, and lock the main route and, where somebody else can do it, a spare.

        Raises:
            TooFewPeers, RuntimeMismatch, DoesNotFit, SessionQuota, PriceOverCap: there is no main
                route.
            LocalError: the ledger does not take the lock.
        """
        wanted, offers = self._wanted, await self._offers()
        whole = range(wanted.first, wanted.stages)
        main = self._laid(offers, whole)
        self._check_price(main)
        routes = [main]
        if has_spare:
            try:
                spare = self._laid(offers, whole, beside=main)
                self._check_price(spare, beside=main)
                routes.append(spare)
            except PlanRefused as refused:
                log.info("no spare route: %s", refused.what)
        failed: list[PrsmError] = []
        async with trio.open_nursery() as nursery:
            for route in routes:
                nursery.start_soon(self._lock, route, failed)
        if main not in self.locked:
            raise failed[0]
        self.locked.sort(key=lambda route: route is not main)

    def stage(self, index: int) -> RemoteStage:
        """Who does a stage at first."""
        return self._at(self.locked[0], index)

    async def next(self, index: int, lost: Stage, why: WorkerLost) -> Stage:
        """As `Substitutes.next`: the same worker if it is still there, a spare, a new lock."""
        assert isinstance(lost, RemoteStage)
        worker = lost.seat.worker
        if self._may_try_again(index, lost, why):
            self._again.add((index, worker))
            return self._at_seat(lost.seat, index)
        if self._is_failure(lost.seat, why):
            self._market.bans.strike(lost.seat.peer, self._market.now_ms())
        self._avoid.setdefault(index, set()).add(worker)
        for route in self.locked:
            seat = self._seat(route, index)
            if seat is None or seat.worker in self._avoid[index]:
                continue
            if self._links.departures.left_s(seat.peer) is None:
                return self._at_seat(seat, index)
        return self._at(await self._lock_another(index, why), index)

    async def retire(self, stage: Stage) -> None:
        """Have the receipt of a stage that was left while its worker is still there."""
        assert isinstance(stage, RemoteStage)
        try:
            receipt = await stage.finish()
        except PrsmError as error:  # lost, or our wallet is locked: it is asked again at the end
            log.warning("%s shows no receipt yet: %s", stage.name, error.what)
            return
        if receipt is None:
            stage.end()
        else:
            self.shown.append(receipt)
        if stage in self.used:  # else its seat was taken again, and it is asked with that
            self.used.remove(stage)

    def thank(self, receipts: Sequence[WorkReceipt]) -> None:
        """Whoever showed a receipt did well by its last step: it is no longer left out."""
        shown = {receipt.worker for receipt in receipts}
        for stage in self.used:
            if stage.seat.worker in shown and stage.is_well:
                self._market.bans.clear(stage.seat.peer)

    def _laid(
        self, offers: Sequence[WorkerOffer], only: range, *, beside: Route | None = None
    ) -> Route:
        market, now_ms = self._market, self._market.now_ms()
        leaving = self._links.departures.left_s
        failed = {
            offer.peer
            for offer in offers
            if market.bans.is_out(offer.peer, now_ms) or leaving(offer.peer) is not None
        }
        return lay_out(
            *(offers, self._wanted),
            job=self._new_id(),
            only=only,
            beside=beside,
            failed=failed,
        )

    def _may_try_again(self, index: int, lost: RemoteStage, why: WorkerLost) -> bool:
        """Is the worker there and only its session gone? Its shard is loaded, its lock stands."""
        is_live = any(info.peer == lost.seat.peer for info in self._links.network.peers())
        is_forgetful = why.cause in (UnknownSession.reason, WorkerFailed.reason)
        return is_live and is_forgetful and (index, lost.seat.worker) not in self._again

    def _is_failure(self, seat: Seat, why: WorkerLost) -> bool:
        """Did the worker do worse than it should? Then plans leave it out for a while.

        Not who computes otherwise, leaves, or may do no more, as the ledger shows.
        """
        if self._links.is_closed(seat.job, seat.unit, seat.worker, cause=why.cause):
            return False
        return why.cause not in (ClassMissing.reason, LEAVES)

    async def _lock_another(self, index: int, why: WorkerLost) -> Route:
        """Lock the stage for somebody else; who lost it before, but is back, is better than nobody.

        Raises:
            NoSubstitute: nobody in all tries, or it would cost too much.
        """
        # It may come back, or take a new lock; who refuses has said why.
        is_back = why.cause in (PeerUnreachable.reason, JobClosed.reason)
        for left in range(ANOTHER_TRIES if is_back else 1, 0, -1):
            try:
                return await self._lock_one(index)
            except LocalError as error:
                if left == 1 or isinstance(error, PriceOverCap):
                    what = f"stage {index} was lost ({why.what}) and nobody takes it over"
                    raise NoSubstitute(
                        f"{what}: {error.what}",
                        hint="connect more workers, and generate again",
                    ) from error
            self._avoid[index].clear()
            await trio.sleep(ANOTHER_WAIT_S)
        raise AssertionError("no try was the last")

    async def _lock_one(self, index: int) -> Route:
        offers = await self._offers()
        left = [offer for offer in offers if offer.worker not in self._avoid[index]]
        route = self._laid(left, range(index, index + 1))
        self._check_price(route)
        failed: list[PrsmError] = []
        await self._lock(route, failed)
        if failed:
            raise NoSubstitute(f"it was not locked anew: {failed[0].what}")
        return route

    async def _offers(self) -> list[WorkerOffer]:
        links = self._links
        found = await ask_all(links.network, links.chain, links.verifier)
        return [replace(each, bonded_for=links.chain.bonded_for(each.worker)) for each in found]

    async def _lock(self, route: Route, failed: list[PrsmError]) -> None:
        chain, wanted = self._links.chain, self._wanted
        lock = Lock(
            job=route.job,
            tenant=wanted.tenant,
            asset=FTNS,
            parent=None,
            batch_rows=route.rows,
            units=route.units,
            budget=0,
            shares=(),
            deadline_ms=chain.deadline_ms(wanted.deadline_ms),
            is_open_ended=True,
        )
        self.sent.append(route)
        try:
            await self._notes.keep(route.job, 0, route.job)  # before money can move
            await commit(chain, LOCK, lock)
        except PrsmError as error:
            log.warning("a route is not locked: %s", error.what)
            failed.append(error)
            if not isinstance(error, NoBlock):
                self.sent.remove(route)
                await self._forget(route)
            return
        self.sent.remove(route)
        self.locked.append(route)

    async def _forget(self, route: Route) -> None:
        try:
            await self._notes.drop(route.job, 0)
        except PrsmError as error:  # looked at again after the next start
            log.warning("the note of a route stays: %s", error.what)

    def _check_price(self, route: Route, *, beside: Route | None = None) -> None:
        cap, total = self._wanted.price_cap, self.amount + route.amount
        total += 0 if beside is None else beside.amount
        if cap is not None and total > cap:
            raise PriceOverCap(
                f"the escrow would be {format_ftns(total)} FTNS, at most {format_ftns(cap)} "
                "are allowed",
                value=total,
                limit=cap,
                hint="allow more, or ask for fewer tokens",
            )

    def _seat(self, route: Route, index: int) -> Seat | None:
        for place, unit in enumerate(route.units):
            if unit.stage == index:
                [worker] = unit.workers
                return Seat(
                    peer=route.peers[worker],
                    job=route.job,
                    unit=place,
                    worker=worker,
                    spec=unit,
                    rows=route.rows,
                )
        return None

    def _at(self, route: Route, index: int) -> RemoteStage:
        seat = self._seat(route, index)
        assert seat is not None
        return self._at_seat(seat, index)

    def _at_seat(self, seat: Seat, index: int) -> RemoteStage:
        wanted = self._wanted
        before = next((each for each in self.used if each.seat == seat), None)
        stage = RemoteStage(
            self._links,
            seat,
            wanted.shapes[index],
            positions=wanted.positions,
            sampling=wanted.sampling,
            before=before,
        )
        if before is not None:
            self.used.remove(before)
        self.used.append(stage)
        return stage
