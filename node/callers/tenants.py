"""Tenants of one node: each sees its own jobs, plans, texts, tasks, objects, keys, within quotas.

A layer around calls. The operator (tenant "") sees everything and has no quota. What is somebody
else's answers as if it were not there: an id nobody has and an id of another take the same way.
Source: docs/spec/rpc.md, "Tenants".

Knows: callers, claims, quotas. Must not know: how a job is run, how a token is made.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import trio

from prsm.node.callers.belongings import (
    HEARD,
    OWNED,
    SHARED,
    WORK,
    Belonging,
    Kind,
    Place,
    for_tenant,
    own_pin,
    own_pins,
    shown_pin,
)
from prsm.node.callers.stores import OPERATOR, QuotaPassed, StoredObject, Stores
from prsm.node.clock import Clock
from prsm.node.models import Pinned
from prsm.node.rpc.dispatch import Ask, Go
from prsm.node.rpc.errors import Forbidden, TooMany
from prsm.node.rpc.spec import Caller
from prsm.storage.errors import NotFound
from prsm.storage.tenancy import TENANTS_MAX, Tenancy, TenantRow

RUNNING_MAX: Final = 4
STORAGE_BYTES_MAX: Final = 10 * 2**30
CALLS_PER_S: Final = 50
_SEEN_MAX: Final = 10_000  # claims kept in memory for events: of what lives

# Is a job, plan or generation at work no more?
IsOver = Callable[[str, bytes], bool]


# A model by reference: what it would take.
FindObject = Callable[[str], Awaitable[StoredObject]]


@dataclass(slots=True)
class _Busy:
    """What a tenant has at work, and when it may call again."""

    running: set[tuple[str, str]] = field(default_factory=set)
    opening: int = 0
    tokens: float = 0.0
    filled_ms: int = -1


class Tenants:
    """Keeps tenants apart."""

    def __init__(
        self,
        tenancy: Tenancy,
        clock: Clock,
        *,
        is_over: IsOver,
        find_object: FindObject,
        is_fetched: Callable[[str], bool],
    ) -> None:
        """Nothing is read yet; `load` is called once. `is_fetched`: does a task fetch that CID?"""
        self._tenancy, self._clock = tenancy, clock
        self._is_over, self._find_object = is_over, find_object
        self._stores = Stores(tenancy, clock, is_fetched, self._remember, self._release)
        self._rows: dict[str, TenantRow] = {}
        self._busy: dict[str, _Busy] = {}
        self._seen: OrderedDict[tuple[str, str], frozenset[str]] = OrderedDict()

    async def load(self) -> None:
        """Read quotas, and whose the newest things are."""
        self._rows = {row.name: row for row in await self._tenancy.tenants()}
        kinds = (Kind.JOB, Kind.PLAN, Kind.GENERATION, Kind.TASK, Kind.OBJECT)
        for kind, one, name in reversed(await self._tenancy.newest_claims(kinds, _SEEN_MAX)):
            self._remember(name, Kind(kind), one)

    # -- the layer

    async def layer(self, ask: Ask, go: Go) -> object:
        """Let a tenant's call reach what is its own.

        Raises:
            TooMany: more calls a second than its quota.
            Forbidden: a method that is the operator's.
            NotFound: a thing that is not there, or not this tenant's.
            QuotaPassed: no room for more work or bytes.
            Exception: what the handler raises.
        """
        caller = ask.caller
        if caller.tenant == OPERATOR:
            return await go(ask)
        return for_tenant(await self._within(ask, go), caller.tenant)

    async def _within(self, ask: Ask, go: Go) -> object:
        """What the tenant reaches, with the pins of others still in it."""
        caller, name = ask.caller, ask.method.name
        row = await self._row(caller.tenant)
        if not ask.trail.is_answered:  # else the second half of a call (`halves`)
            self._take_turn(row)
        belonging = OWNED.get(name)
        if belonging is None:
            if name not in SHARED:
                raise Forbidden(
                    f"{name} is for the node's operator, {caller.name} is of tenant {row.name!r}"
                )
            return await go(_in_turn(ask))
        ask = await self._named(ask, belonging)
        if belonging.gives_up:
            return await self._give_up(ask, belonging, go)
        if belonging.stores:
            return await self._store(ask, belonging, row, go)
        if belonging.leaves and belonging.named is not None:
            return await self._leave(ask, belonging.named, go)
        if belonging.made is not None and belonging.made.kind in WORK:
            return await self._work(ask, belonging, row, go)
        return await self._noted(ask, belonging, await go(ask))

    async def _named(self, ask: Ask, belonging: Belonging) -> Ask:
        """The call with the whole id of what it names, which is the caller's."""
        place = belonging.named
        given = getattr(ask.params, place.field) if place is not None else None
        if place is None or given is None:
            return ask
        tenant = ask.caller.tenant
        if place.kind is Kind.TASK:  # a prefix will do
            mine = await self._tenancy.owned(tenant, place.kind)
            found = [one for one in mine if one.startswith(given)]
            whole = given if given in mine else found[0] if len(found) == 1 else None
        else:
            is_seen = tenant in self._seen.get((place.kind.value, given), ())
            is_own = is_seen or await self._tenancy.owns(tenant, place.kind, given)
            whole = given if is_own else None
        if whole is None:
            raise NotFound(f"tenant {tenant!r} has no {place.kind.value} {given[:66]!r}")
        return ask if whole == given else _with(ask, **{place.field: whole})

    async def _work(self, ask: Ask, belonging: Belonging, row: TenantRow, go: Go) -> object:
        """Start work within the quota."""
        busy = self._busy.setdefault(row.name, _Busy())
        at_work = self._running(row.name)
        if at_work >= row.running_max:
            raise QuotaPassed(
                f"{at_work} jobs, plans and texts of tenant {row.name!r} are at work, "
                f"at most {row.running_max}",
                hint="wait for one, or cancel it",
            )
        busy.opening += 1
        try:
            result = await self._noted(ask, belonging, await go(ask))
        finally:
            busy.opening -= 1
        assert belonging.made is not None
        busy.running.add((belonging.made.kind.value, getattr(result, belonging.made.field)))
        return result

    async def _store(self, ask: Ask, belonging: Belonging, row: TenantRow, go: Go) -> object:
        """Claim a model within the quota; a claim that was made for nothing goes again."""
        ref: str = getattr(ask.params, "ref")  # noqa: B009 - of several structs
        found = await self._find_object(ref)
        tenant, pinned = row.name, ""
        if belonging.pins:
            params, pinned = own_pin(ask.params, ask.caller.tenant)
            ask = replace(ask, params=params)
        async with self._stores.claimed(row, ref, found):
            result = await go(ask)
        if pinned:
            await self._claim(tenant, Kind.PIN, f"{found.cid} {pinned}")
        return await self._noted(ask, belonging, shown_pin(result, pinned))

    async def _give_up(self, ask: Ask, belonging: Belonging, go: Go) -> object:
        """End a claim; the bytes go only with the last one."""
        ref: str = getattr(ask.params, "ref")  # noqa: B009 - of several structs
        found = await self._find_object(ref)
        tenant = ask.caller.tenant
        if not await self._tenancy.owns(tenant, Kind.OBJECT, found.cid):
            raise NotFound(f"tenant {tenant!r} has no model {ref[:80]!r}")
        if belonging.pins:
            return await self._unpin(ask, found.cid, go)
        pins = await self._pins(tenant, found.cid)
        if pins:  # its bytes would stay, and nobody's claim count them
            raise Pinned(ref[:80], own_pins(pins, tenant))
        owners = await self._tenancy.owners(Kind.OBJECT, found.cid)
        result = await self._delete(ask, go) if owners == {tenant} else None
        if result is None:
            others = max(1, len(owners) - 1)
            result = msgspec.convert(
                {"cid": found.cid, "files": 0, "freed_bytes": 0, "shared": others},
                ask.method.result,
            )
        await self._release(tenant, Kind.OBJECT, found.cid)
        return result

    async def _delete(self, ask: Ask, go: Go) -> object | None:
        """Delete the bytes of a model that nobody else claims; None if others have pinned it."""
        try:
            return await go(ask)
        except Pinned as error:
            own = own_pins(error.pins, ask.caller.tenant)
            if own:
                ref: str = getattr(ask.params, "ref")  # noqa: B009 - of several structs
                raise Pinned(ref[:80], own) from None
            return None

    async def _unpin(self, ask: Ask, cid: str, go: Go) -> object:
        """Give a pin up, and with the last one the claim."""
        tenant, params = ask.caller.tenant, ask.params
        given, pinned = own_pin(params, tenant)
        try:
            result = shown_pin(await go(replace(ask, params=given)), pinned)
        except NotFound as error:  # its own name for it; what we noted of it is wrong then
            with trio.CancelScope(shield=True):  # bounded: one write to a local file
                await self._tenancy.release(tenant, Kind.PIN, f"{cid} {pinned}")
            name: str = getattr(params, "name")  # noqa: B009 - of several structs
            raise NotFound(error.what.replace(pinned, name), hint=error.hint) from None
        await self._tenancy.release(tenant, Kind.PIN, f"{cid} {pinned}")
        if not await self._pins(tenant, cid):
            await self._release(tenant, Kind.OBJECT, cid)
        return result

    async def _pins(self, tenant: str, cid: str) -> tuple[str, ...]:
        """Names under which a tenant keeps a model, as they are kept."""
        pins = await self._tenancy.owned(tenant, Kind.PIN)
        head = f"{cid} "
        return tuple(sorted(pin.removeprefix(head) for pin in pins if pin.startswith(head)))

    async def _leave(self, ask: Ask, place: Place, go: Go) -> object:
        """Ask for the end of a task; one that others want too goes on, and is theirs alone."""
        result: Any = await go(ask)
        if result.state == "running":
            await self._release(ask.caller.tenant, place.kind, getattr(result, place.field))
        return result

    async def _noted(self, ask: Ask, belonging: Belonging, result: object) -> object:
        """Claim what the result says was made; leave out what is not the caller's."""
        tenant, made = ask.caller.tenant, belonging.made
        with trio.CancelScope(shield=True):  # bounded: what was made must have an owner
            if made is not None:
                await self._claim(tenant, made.kind, getattr(result, made.field))
            for job in belonging.adopted(result):
                if not await self._tenancy.owns(tenant, Kind.JOB, job):
                    await self._claim(tenant, Kind.JOB, job)
        if belonging.listed is None:
            return result
        return await self._listed(tenant, belonging.listed, result)

    async def _listed(self, tenant: str, place: Place, result: Any) -> object:  # noqa: ANN401 - a list
        mine = await self._tenancy.owned(tenant, place.kind)
        if place.kind is Kind.OBJECT:
            # The operator's are everybody's to use; those of other tenants alone are not shown.
            theirs = await self._tenancy.claimed_by_anybody(place.kind)
            common = await self._tenancy.owned(OPERATOR, place.kind)
            items = [
                one
                for one in result.items
                if (cid := getattr(one, place.field)) in mine or cid in common or cid not in theirs
            ]
        else:
            items = [one for one in result.items if getattr(one, place.field) in mine]
        return msgspec.structs.replace(result, items=tuple(items))

    # -- what others ask

    def may_see(self, caller: Caller, kind: str, one: str) -> bool:
        """Is a thing that lives now the caller's to see? Of the events' task: it asks no disk."""
        tenant = caller.tenant
        return tenant == OPERATOR or tenant in self._seen.get((kind, one), ())

    def may_hear(self, caller: Caller, topic: str, row: msgspec.Struct) -> bool:
        """Is a row of a topic the caller's to hear? Of the events' task, as `may_see`."""
        place = HEARD.get(topic)
        if place is None:
            return caller.tenant == OPERATOR
        one: str = getattr(row, place.field)
        if place.kind is Kind.OBJECT:  # of nobody, or of the operator: everybody's to use
            owners = self._seen.get((place.kind.value, one), frozenset())
            return not owners or OPERATOR in owners or self.may_see(caller, place.kind, one)
        return self.may_see(caller, place.kind, one)

    def rows(self) -> list[TenantRow]:
        """All tenants by name."""
        return [self._rows[name] for name in sorted(self._rows)]

    async def put(self, row: TenantRow) -> None:
        """Make a tenant, or change its quotas.

        Raises:
            QuotaPassed: too many tenants.
        """
        if row.name not in self._rows and len(self._rows) >= TENANTS_MAX:
            raise QuotaPassed(f"{len(self._rows)} tenants, at most {TENANTS_MAX}")
        await self._tenancy.put_tenant(row)
        self._rows[row.name] = row

    async def remove(self, name: str) -> None:
        """Forget a tenant; what it claimed is the operator's from then on.

        Raises:
            NotFound: there is none of that name.
        """
        self._rows.pop(name, None)
        self._busy.pop(name, None)
        for key in [key for key, names in self._seen.items() if name in names]:
            self._seen[key] -= {name}
        if not await self._tenancy.remove_tenant(name):
            raise NotFound(f"no tenant {name!r}", hint="see: prsm tenant ls")

    async def usage(self, name: str) -> tuple[TenantRow, int, int]:
        """Quotas of a tenant, its work and its bytes now.

        Raises:
            NotFound: there is none of that name.
        """
        row = self._rows.get(name)
        if row is None:
            raise NotFound(f"no tenant {name!r}", hint="see: prsm tenant ls")
        return row, self._running(name), await self._tenancy.bytes_of(name)

    # -- counting

    async def _row(self, name: str) -> TenantRow:
        row = self._rows.get(name)
        if row is None:
            made_ms = self._clock.wall_ms()
            row = TenantRow(name, RUNNING_MAX, STORAGE_BYTES_MAX, CALLS_PER_S, made_ms)
            await self.put(row)
        return row

    def _take_turn(self, row: TenantRow) -> None:
        """A bucket that holds two seconds' worth of calls."""
        busy, now_ms = self._busy.setdefault(row.name, _Busy()), self._clock.monotonic_ms()
        room = 2.0 * row.calls_per_s
        if busy.filled_ms < 0:
            busy.tokens = room
        else:
            gained = (now_ms - busy.filled_ms) * row.calls_per_s / 1000
            busy.tokens = min(room, busy.tokens + gained)
        busy.filled_ms = now_ms
        if busy.tokens < 1:
            wait_ms = int((1 - busy.tokens) * 1000 / row.calls_per_s) + 1
            raise TooMany(
                f"tenant {row.name!r} has {row.calls_per_s} calls a second", retry_after_ms=wait_ms
            )
        busy.tokens -= 1

    def _running(self, name: str) -> int:
        busy = self._busy.setdefault(name, _Busy())
        over = {
            (kind, one)
            for kind, one in busy.running
            if self._is_over(kind, bytes.fromhex(one.removeprefix("0x")))
        }
        busy.running -= over
        return len(busy.running) + busy.opening

    async def _claim(self, tenant: str, kind: Kind, one: str, *, size_bytes: int = 0) -> None:
        now_ms = self._clock.wall_ms()
        await self._tenancy.claim(tenant, kind.value, (one,), size_bytes=size_bytes, now_ms=now_ms)
        self._remember(tenant, kind, one)

    async def _release(self, tenant: str, kind: Kind, one: str) -> None:
        await self._tenancy.release(tenant, kind, one)
        key = (kind.value, one)
        self._seen[key] = self._seen.get(key, frozenset()) - {tenant}

    def _remember(self, tenant: str, kind: Kind, one: str) -> None:
        key = (kind.value, one)
        self._seen[key] = self._seen.get(key, frozenset()) | {tenant}
        while len(self._seen) > _SEEN_MAX:
            self._seen.popitem(last=False)


def _with(ask: Ask, **changes: object) -> Ask:
    return replace(ask, params=msgspec.structs.replace(ask.params, **changes))


def _in_turn(ask: Ask) -> Ask:
    """A request for warm workers waits in its tenant's turn, whatever it says."""
    if ask.method.name != "serve_run":
        return ask
    return _with(ask, tenant=ask.caller.tenant[:32])
