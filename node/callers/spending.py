"""What tokens may spend, held to: reserved before a call spends, settled when its cost is known.

A layer around calls. A call of a limited token whose price the parameters do not say gets what is
left as its highest price; one that has no price at all is refused. What a crash left unclear
counts as spent. Source: docs/spec/rpc.md, "Spending".

Knows: tokens by id, prices, outlays. Must not know: how tokens are made, what a job is.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import trio

from prsm.node.callers.costs import Costs
from prsm.node.callers.prices import FREE, PRICES, Fees, Price, with_cap
from prsm.node.clock import Clock
from prsm.node.rpc.dispatch import Ask, Go
from prsm.node.rpc.errors import Forbidden, only_leaf
from prsm.node.rpc.reasons import UNCLEAR
from prsm.node.rpc.spec import Scope
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.ids import format_ftns, parse_hex
from prsm.storage.outlays import Limits, Outlays, Reserved, Sums

# Token id -> what it may spend; None: there is no such token any more.
LimitsOf = Callable[[str], Limits | None]
LOOK_S: Final = 15.0
# Refusals that come before anything is bought, also of a call whose failures may have cost and do
# not say how much.
_BEFORE: Final = frozenset(
    (
        *("model_not_found", "not_found", "invalid_params", "input_mismatch", "forbidden"),
        *("price_over_cap", "price_exceeded", "busy", "wallet_locked", "no_placement"),
        *("insufficient_funds", "rate_limited"),
    )
)

log: Final = logs.get("spending")


class LimitExceeded(LocalError):
    """A token has less left than a call may cost."""

    reason = "spend_limit"


class Spending:
    """Keeps count of what tokens spend.

    Args:
        outlays: where it is kept.
        limits_of: what a token may spend.
        costs: what a job came to.
        clock: what time it is.
        fees: what transactions cost today.
    """

    def __init__(
        self, outlays: Outlays, limits_of: LimitsOf, costs: Costs, clock: Clock, fees: Fees
    ) -> None:
        self._outlays, self._limits_of = outlays, limits_of
        self._costs, self._clock, self._fees = costs, clock, fees

    async def layer(self, ask: Ask, go: Go) -> object:
        """Reserve, let it be done, settle or take back.

        Raises:
            LimitExceeded: the token has less left than the call may cost.
            Forbidden: what the call costs cannot be told, and the token has a limit.
            Exception: what the handler raises.
        """
        token, name = ask.caller.token_id, ask.method.name
        price = PRICES.get(name)
        if not token or (price is None and ask.method.scope is Scope.READ):
            return await go(ask)
        limits = self._limits_of(token) or Limits(0, 0)
        if price is None:
            if limits.is_any and name not in FREE:
                raise Forbidden(
                    f"{ask.caller.name} has a limit, and what {name} costs cannot be told",
                    hint="use a token without one, or the node's own cookie",
                )
            return await go(ask)
        wanted = price.asked(ask.params, self._fees)
        if wanted == 0:
            return await go(ask)
        reserved = await self._reserve(ask, wanted, limits)
        if wanted is None and limits.is_any:
            room = self._fees.of_size(price.room_bytes) if price.room_bytes else 0
            if reserved.amount <= room:
                await self._outlays.drop(reserved.id)
                raise self._no_room(ask, reserved.amount, room + 1)
            ask = replace(ask, params=with_cap(ask.params, reserved.amount - room))
        try:
            result = await go(ask)
        except BaseException as error:
            with trio.CancelScope(shield=True):  # bounded: one write to a local file
                await self._take_back(reserved, price, error)
            raise
        with trio.CancelScope(shield=True):  # bounded, as above
            await self._note(reserved, price, result)
        return result

    async def sums(self, token: str) -> tuple[Sums, Limits]:
        """What a token has spent, and what it may."""
        await self.look()
        now_ms = self._clock.wall_ms()
        return await self._outlays.sums(token, now_ms=now_ms), self.limits(token)

    def limits(self, token: str) -> Limits:
        """What a token may spend; nothing if there is none of that id."""
        return self._limits_of(token) or Limits(0, 0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Settle what is over, now and then, until cancelled."""
        await self._outlays.close_unbound()
        task_status.started()
        while True:
            try:
                await self.look()
                await self._outlays.fold(now_ms=self._clock.wall_ms())
            except LocalError as error:
                log.warning("spending is not settled", why=error.what)
            await trio.sleep(LOOK_S)

    async def look(self) -> None:
        """Put what is over at what it came to."""
        for one in await self._outlays.unfinished():
            if not one.kind:
                continue  # its call is under way
            name = parse_hex(one.subject, size=32, what=one.kind)
            cost = self._costs.look(one.kind, name, reserved=one.amount, made_ms=one.made_ms)
            if cost.is_final or cost.amount != one.amount:
                await self._outlays.settle(one.id, cost.amount, is_final=cost.is_final)

    async def _reserve(self, ask: Ask, wanted: int | None, limits: Limits) -> Reserved:
        found = await self._try(ask, wanted, limits)
        if isinstance(found, Sums):
            await self.look()  # what is over may make room
            found = await self._try(ask, wanted, limits)
        if isinstance(found, Reserved):
            return found
        raise self._no_room(ask, found.left(limits) or 0, wanted)

    @staticmethod
    def _no_room(ask: Ask, left: int, wanted: int | None) -> LimitExceeded:
        asked = "something" if wanted is None else f"{format_ftns(wanted)} FTNS, with fees"
        return LimitExceeded(
            f"{ask.caller.name} may still spend {format_ftns(left)} FTNS, "
            f"{ask.method.name} asks for {asked}",
            hint="see: prsm tenant spending; give less with --max-price",
        )

    async def _try(self, ask: Ask, wanted: int | None, limits: Limits) -> Reserved | Sums:
        return await self._outlays.reserve(
            ask.caller.token_id,
            ask.method.name,
            wanted,
            limits=limits,
            now_ms=self._clock.wall_ms(),
        )

    async def _note(self, reserved: Reserved, price: Price, result: object) -> None:
        if price.kind:
            await self._outlays.bind(reserved.id, price.kind, getattr(result, price.subject))
        else:
            await self._outlays.settle(reserved.id, price.came_to(result, reserved.amount))

    async def _take_back(self, reserved: Reserved, price: Price, error: BaseException) -> None:
        """Count what a call that failed may have cost: what it says, else by its reason."""
        error, amount = only_leaf(error), reserved.amount
        if isinstance(error, PrsmError) and error.reason not in UNCLEAR:
            if price.keeps and error.spent is not None:
                amount = error.spent + (
                    self._fees.of_size(price.room_bytes) if price.room_bytes else 0
                )
            elif not price.keeps or error.reason in _BEFORE:
                amount = 0
        if amount:
            await self._outlays.settle(reserved.id, amount)
        else:
            await self._outlays.drop(reserved.id)
