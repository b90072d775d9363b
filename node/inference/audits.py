"""The checks this node was drawn for: as an auditor of unshown work, as a member of a committee.

Looks at the ledger after each block, does what it finds there, two checks at a time, sends what
it found; a finding goes out sealed, and is shown once nobody can seal any more. Must not know how
a check is done. A check that fails for a reason of ours is tried again after the next block, and
none goes on when the ledger takes no word of it any more; work nobody serves is judged so only
when the time for sealing runs out, and only if there was time to look for it.
Source: docs/spec/work.md, "Audits".
"""

import logging
from typing import Final

import trio

from prsm.node.inference.court import Court, Duty, Opening, Trial
from prsm.node.inference.evidence import Place
from prsm.node.inference.inquiry import LEFT_S, Ask, Sources, Unserved
from prsm.node.inference.interface import Chain
from prsm.node.inference.judging import Stated
from prsm.node.inference.recheck import Recheck
from prsm.protocol.errors import PrsmError
from prsm.protocol.messages.audit import Side
from prsm.protocol.transactions.audits import Finding

CHECKS_MAX: Final = 2  # at one time; each may load a shard
TRIES_MAX: Final = 8  # of one check that fails here

log = logging.getLogger(__name__)

_Check = Duty | Trial
_Due = _Check | Opening


class Auditor:
    """Does the checks the ledger drew this node for."""

    def __init__(self, chain: Chain, court: Court, recheck: Recheck) -> None:
        self._chain, self._court, self._recheck = chain, court, recheck
        self._tries: dict[_Due, int] = {}
        self._sources: dict[_Check, Sources] = {}  # of all tries of a check
        self._busy: set[_Due] = set()
        self._room = trio.Semaphore(CHECKS_MAX)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look after each block until cancelled."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                court = self._court
                due: list[_Due] = [*court.duties(), *court.trials(), *court.openings()]
                self._tries = {check: n for check, n in self._tries.items() if check in due}
                self._sources = {each: of for each, of in self._sources.items() if each in due}
                for check in due:
                    if check not in self._busy and self._tries.get(check, 0) < TRIES_MAX:
                        self._busy.add(check)
                        nursery.start_soon(self._do, check)
                await self._chain.wait_height(self._chain.height() + 1)

    async def _do(self, check: _Due) -> None:
        try:
            if isinstance(check, Opening):
                await self._court.open(check)
                return
            left_ms = check.until_ms - self._chain.block_time_ms()  # it begins behind a block
            with trio.move_on_after(max(0, left_ms) / 1000):
                async with self._room:
                    if isinstance(check, Duty):
                        await self._audit(check)
                    else:
                        await self._judge(check)
        except PrsmError as error:
            self._tries[check] = self._tries.get(check, 0) + 1
            log.info("unit %d is not checked: %s", check.unit, error.what)
        except Exception:  # one check must not take the others down
            self._tries[check] = TRIES_MAX
            log.exception("a check of unit %d", check.unit)
        finally:
            self._busy.discard(check)

    async def _audit(self, duty: Duty) -> None:
        found = await self._recheck.compute(self._ask(duty))
        await self._court.audit(duty, found)

    async def _judge(self, trial: Trial) -> None:
        stated = Stated(trial.stated, trial.class_id)
        try:
            finding = await self._recheck.judge(self._ask(trial), stated)
        except Unserved:
            if trio.current_time() < trio.current_effective_deadline() - LEFT_S:
                return  # it may come back: asked again after the next block
            finding = Finding.UNSERVED
        await self._court.judge(trial, finding)

    def _ask(self, check: _Check) -> Ask:
        place = Place(check.job, check.unit, check.batch, Side.IN, check.worker)
        sources = self._sources.setdefault(check, Sources())
        return Ask(place, self._court.signer(check), sources)
