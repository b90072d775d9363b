"""Carries faults out on a running network and takes them back: the one place that does so.

Knows: processes, links, clocks, what a fault says is to be done. Must not know: clients. Whatever
happens in between, `heal` leaves nothing behind; nodes that were killed come back on their own.

A full disk is RLIMIT_FSIZE 0 set on the running daemon from outside (prlimit): the kernel refuses
log, guard and ledger alike, in the product as it is. A small tmpfs needs root, a composed storage
would spare SQLite; EFBIG in the place of ENOSPC is "full" to the product too (`storage/disk`).
"""

import math
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, assert_never

import msgspec
import trio

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.chain import ChainStatus
from prsm.testnet import exports, previous
from prsm.testnet.asking import Asker, Door
from prsm.testnet.deceit import lie_of, set_lie
from prsm.testnet.faults import PARTITIONS, Fault, Kind, Layer, Round, cut_off, layer_of, stacked
from prsm.testnet.flooding import flood
from prsm.testnet.launch import Network
from prsm.testnet.links import Links
from prsm.testnet.minority import Minority
from prsm.testnet.perturbed import Outcome
from prsm.testnet.processes import Node, NodeDied
from prsm.testnet.proxy import Conditions, Pair
from prsm.testnet.pulse import Pulse
from prsm.testnet.skewed import set_skew
from prsm.testnet.watch import Watch

DOWN_SECONDS: Final = 0.5  # a killed node stays away at least so long
LOOK_SECONDS: Final = 0.1
ASK_SECONDS: Final = 2.0
STOP_SECONDS: Final = 15.0
RESUME_SECONDS: Final = 20.0  # an ordinary start takes half of it on a busy machine


@dataclass(slots=True)
class Perturber:
    """Does things to one network, as many at once as asked for.

    Attributes:
        base: what the links have without faults.
        voters: places of the validators.
        watches: of all nodes, running; for what happens under and after a fault.
        pulse: measures how soon a commit comes after a fault; None: not measured.
    """

    network: Network
    links: Links
    voters: Sequence[int]
    watches: Sequence[Watch]
    dice: random.Random
    base: Mapping[Pair, Conditions] = field(default_factory=dict)
    pulse: Pulse | None = None
    done: Counter[Kind] = field(default_factory=Counter)
    outcomes: list[Outcome] = field(default_factory=list)
    _layers: dict[int, Layer] = field(default_factory=dict)
    _limits: dict[int, tuple[int, int]] = field(default_factory=dict)  # by pid
    _lying: set[int] = field(default_factory=set)
    _down: Counter[str] = field(default_factory=Counter)  # by name: faults that hold it down now
    _up_at: dict[str, float] = field(default_factory=dict)  # when the last of them ended
    _eased: int = 0  # faults that began to end: what they held up may arrive
    _turn: trio.Lock = field(default_factory=trio.Lock)
    _began: float = field(default_factory=time.monotonic)

    async def play(self, each: Round) -> None:
        """One round of faults at once, its rest included; nothing is left of it.

        Raises:
            NodeDied: a node ended by itself.
        """
        outcomes: list[Outcome] = []

        async def one(fault: Fault) -> None:
            outcomes.append(await self._observe(fault))

        async with trio.open_nursery() as nursery:
            for fault in each.faults:
                nursery.start_soon(one, fault)
        self.check_alive()
        await self.heal()
        await self._measure(outcomes)
        await trio.sleep(each.rest_seconds)

    async def _measure(self, outcomes: Sequence[Outcome]) -> None:
        """How soon after a round each fault's nodes commit; killed ones, that must start, last."""
        healed = time.monotonic()
        dead = {place for each in outcomes if each.kind is Kind.KILL for place in each.places}
        for each in sorted(outcomes, key=lambda outcome: outcome.kind is Kind.KILL):
            places = [p for p in _touched(each) if each.kind is Kind.KILL or p not in dead]
            waited = await self._beat(places or sorted(set(range(len(self.watches))) - dead))
            heal_ms = None if waited is None else round(1000 * (time.monotonic() - healed), 1)
            self.outcomes.append(msgspec.structs.replace(each, heal_ms=heal_ms))

    async def carry_out(self, fault: Fault) -> Outcome:
        """Do one thing for its time, take it back, and say how it went."""
        outcome = await self._observe(fault)
        outcome = msgspec.structs.replace(outcome, heal_ms=await self._beat(_touched(outcome)))
        self.outcomes.append(outcome)
        return outcome

    async def _observe(self, fault: Fault) -> Outcome:
        self.done[fault.kind] += 1
        began = time.monotonic()
        cut, commits, note = await self._act(fault)
        return Outcome(
            fault.kind,
            fault.places,
            round(began - self._began, 2),
            round(time.monotonic() - began, 2),
            tuple(sorted(cut)),
            commits,
            note=note,
        )

    async def _beat(self, places: Sequence[int]) -> float | None:
        """A write at one of some nodes, any if there are none: until it is durable there."""
        if self.pulse is None:
            return None
        watch = self.watches[self.dice.choice(places or range(len(self.watches)))]
        return round(await self.pulse.beat(watch), 1)

    async def heal(self) -> None:
        """Take back all faults; nodes that are down are started, not waited for."""
        self._layers.clear()
        await self._impose()
        for place, node in enumerate(self.network.nodes):
            if node.has_own_clock or node.is_rigged:
                set_skew(node.home, 0)
            if place in self._lying:
                set_lie(node.home, None)
            self._free_disk(node)
            node.signal(signal.SIGCONT)
            if not node.is_running():
                node.start()
        self._lying.clear()
        self.network.save()

    def check_alive(self) -> None:
        """Notice a node that ended by itself.

        Raises:
            NodeDied: which, and its last words.
        """
        for node in self.network.nodes:
            if node.pid and not node.is_running():
                raise NodeDied(f"{node.name} ended by itself: {node.last_words()}")

    def was_down(self, place: int, since: float) -> bool:
        """Was a node's process dead or stopped by a fault at any time since then (trio's)?"""
        name = self.network.nodes[place].name
        return self._down[name] > 0 or self._up_at.get(name, -math.inf) >= since

    @contextmanager
    def _held_down(self, nodes: Sequence[Node]) -> Iterator[None]:
        self._down.update(node.name for node in nodes)
        try:
            yield
        finally:
            self._down.subtract(node.name for node in nodes)
            self._up_at.update((node.name, trio.current_time()) for node in nodes)

    async def _act(self, fault: Fault) -> tuple[frozenset[int], int, str]:  # noqa: C901 - dispatch
        """Carry a fault out: who was cut off, blocks that came there, a note."""
        nodes, note = [self.network.nodes[place] for place in fault.places], ""
        match fault.kind:
            case Kind.KILL:
                with self._held_down(nodes):
                    await self._kill(nodes, fault.seconds)
            case Kind.BLACKOUT:
                with self._held_down(self.network.nodes):
                    await self._kill(nodes or self.network.nodes, DOWN_SECONDS)
            case Kind.PAUSE:
                with self._held_down(nodes):
                    await self._pause(nodes, fault.seconds)
            case Kind.CLOCK:
                await self._skew(nodes, fault.skew_ms, fault.seconds)
            case Kind.CUT:
                note = f"{await self._cut(fault.places)} connections"
            case Kind.DISK_FULL:
                note = await self._fill(nodes, fault.seconds)
            case Kind.BYZANTINE:
                await self._lie(fault)
                note = fault.lie.value
            case Kind.UPGRADE:
                await previous.upgrade(nodes)
            case Kind.FLOOD:
                seed = self.dice.randrange(2**32)
                note = await flood(self.network, nodes, fault.seconds, seed=seed)
            case Kind.FLAP:
                return await self._flap(fault)
            case Kind.ISOLATE | Kind.SPLIT | Kind.SILENCE | Kind.LOSS | Kind.SLOW:
                return *await self._under(fault, fault.seconds), ""
            case _:
                assert_never(fault.kind)
        return frozenset(), 0, note

    # -- links

    async def _impose(self) -> None:
        async with self._turn:  # or an older answer to "what now" could arrive last and stay
            ways = stacked(self.base, self._layers.values(), len(self.network.nodes))
            await self.links.impose(ways)

    async def _under(self, fault: Fault, seconds: float) -> tuple[frozenset[int], int]:
        """Hold a fault of links for a while; who was cut off, and what they committed."""
        count = len(self.network.nodes)
        layer = layer_of(fault, count)
        self._layers[id(layer)] = layer
        try:
            await self._impose()
            # By this fault alone: another one at the same time may end, or flap, before it does.
            ways = stacked(self.base, [layer], count)
            cut = cut_off(ways, self.voters, count) if fault.kind in PARTITIONS else frozenset()
            commits = await self._watch_minority(cut, seconds)
        finally:
            self._eased += 1
            with trio.CancelScope(shield=True):
                self._layers.pop(id(layer), None)
                await self._impose()
        return cut, commits

    async def _flap(self, fault: Fault) -> tuple[frozenset[int], int, str]:
        cut: frozenset[int] = frozenset()
        commits = pulses = 0
        ends = trio.current_time() + fault.seconds
        while True:
            now, new = await self._under(fault, fault.period_s / 2)
            cut, commits, pulses = cut | now, commits + new, pulses + 1
            if trio.current_time() + fault.period_s > ends:
                return cut, commits, f"{pulses} times"
            await trio.sleep(fault.period_s / 2)

    async def _watch_minority(self, cut: frozenset[int], seconds: float) -> int:
        began = trio.current_time()
        found = Minority(began)
        while cut and trio.current_time() < began + seconds - LOOK_SECONDS:
            heights = await self._heights(cut)
            found.look(heights, self._eased, trio.current_time())
            await trio.sleep(LOOK_SECONDS)
        await trio.sleep(max(0, began + seconds - trio.current_time()))
        heights = await self._heights(cut)
        found.look(heights, self._eased, trio.current_time())
        return found.commits

    async def _heights(self, places: frozenset[int]) -> dict[int, int]:
        """What nodes say themselves, those that answer: killed or paused ones do not."""
        found: dict[int, int] = {}
        for place in places:
            asker = Asker(self.watches[place].door)
            try:
                with suppress(NodeUnreachable, RpcError), trio.move_on_after(ASK_SECONDS):
                    status = await asker.call("chain_getStatus", result=ChainStatus)
                    found[place] = status.height
            finally:
                asker.close()
        return found

    async def _cut(self, places: Sequence[int]) -> int:
        everybody = range(len(self.network.nodes))
        pairs = {(min(p, q), max(p, q)) for p in places for q in everybody if p != q}
        return sum([await self.links.cut(one, other) for one, other in sorted(pairs)])

    # -- processes

    async def _kill(self, victims: Sequence[Node], seconds: float) -> None:
        for node in victims:
            node.signal(signal.SIGKILL)
        for node in victims:
            await _wait_gone(node)
        await trio.sleep(max(DOWN_SECONDS, seconds))
        self._eased += 1
        for node in victims:
            if not node.pid:
                node.start()
        self.network.save()

    async def _pause(self, nodes: Sequence[Node], seconds: float) -> None:
        for node in nodes:
            node.signal(signal.SIGSTOP)
        try:
            await trio.sleep(seconds)
        finally:
            self._eased += 1
            for node in nodes:
                node.signal(signal.SIGCONT)

    async def _skew(self, nodes: Sequence[Node], skew_ms: int, seconds: float) -> None:
        for node in nodes:
            set_skew(node.home, skew_ms)
        try:
            await trio.sleep(seconds)
        finally:
            self._eased += 1
            for node in nodes:
                set_skew(node.home, 0)

    async def _lie(self, fault: Fault) -> None:
        for place in fault.places:
            node = self.network.nodes[place]
            if lie_of(node.home) is None:
                self._lying.add(place)
            set_lie(node.home, fault.lie)
        try:
            await trio.sleep(fault.seconds)
        finally:
            self._eased += 1
            for place in fault.places:
                if place in self._lying:
                    set_lie(self.network.nodes[place].home, None)

    # -- disks

    async def _fill(self, nodes: Sequence[Node], seconds: float) -> str:
        for node in nodes:
            if node.is_running():
                old = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
                self._limits.setdefault(node.pid, old)
                resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (0, old[1]))
        try:
            await trio.sleep(seconds)
        finally:
            self._eased += 1
            for node in nodes:
                self._free_disk(node)
        with self._held_down(nodes):  # with room again, a node begins anew by itself
            return ", ".join([f"{node.name} {await self._resume(node)}" for node in nodes])

    def _free_disk(self, node: Node) -> None:
        old = self._limits.pop(node.pid, None)
        if old is not None and node.is_running():
            resource.prlimit(node.pid, resource.RLIMIT_FSIZE, old)

    async def _resume(self, node: Node) -> str:
        """Wait until a node votes again that has room; start it if it does not by itself."""
        door = self.watches[self.network.nodes.index(node)].door
        with trio.move_on_after(RESUME_SECONDS):
            while await _is_stopped(door):  # noqa: ASYNC110 - another process
                await trio.sleep(LOOK_SECONDS)
            return "went on by itself"
        if node.is_running():
            await trio.to_thread.run_sync(node.stop, time.monotonic() + STOP_SECONDS)
        node.pid = 0
        node.start()
        self.network.save()
        return "was started again"


async def _is_stopped(door: Door) -> bool:
    """Does a node vote no more, or answer no more?"""
    try:
        with trio.fail_after(ASK_SECONDS):
            return bool(await exports.stopped("", door))
    except (NodeUnreachable, RpcError, trio.TooSlowError):
        return True


def _touched(outcome: Outcome) -> tuple[int, ...]:
    return outcome.cut_off or outcome.places


async def _wait_gone(node: Node) -> None:
    while node.is_running():  # noqa: ASYNC110 - a process that dies tells nobody here
        await trio.sleep(0.005)
    node.pid = 0
