"""`prsm-testnet gossip [--lossy 0.2]`: how much of what nodes announce arrives, and when.

Every field of `Options` is an option of the command. Each node is a process of its own with the
daemon's network room (testnet/gossiper): TCP, Noise, Yamux, gossipsub, fences, announcements, pull
repair; no chain. Every node dials some of the others; a share of the links runs through
testnet/proxy and loses segments there, records too where asked. Delays are from the moment an
author stamped a record to the moment another node kept it, by the one clock of this machine.

Knows: the processes, the links, what every one should have heard. Must not know: how gossip works.
"""

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Final, Self

import msgspec
import trio

from prsm.testnet.bench.machine import Reading, commit, machine
from prsm.testnet.gossiper import Heard, Orders, Speech, Told
from prsm.testnet.proxy import Conditions, Proxy
from prsm.testnet.report import plain

START_SECONDS: Final = 180.0  # sixteen imports of libp2p beside other work
STOP_SECONDS: Final = 10.0
LEAD_MS: Final = 2_000  # links are up; the mesh is grafted at the next heartbeats
SETTLE_MS: Final = 5_000  # after the last announcement: what is not there then is lost
LINE_BYTES: Final = 65_536
PERCENT_CLEAR: Final = 99.9
PERCENT_LOSSY: Final = 99.0
P99_MS: Final = 500


class Options(msgspec.Struct, frozen=True):
    """What to measure.

    Attributes:
        nodes: processes.
        rate: announcements a second, of all nodes together.
        seconds: announcing.
        size: bytes of each.
        dials: others that each node dials.
        lossy: share of the links that lose segments.
        loss: share of segments they lose; each costs a retransmission timeout, 200 ms and more.
        drop: share of the records coming over them that are lost for good.
        delay: ms one way on every link, lossy or not.
        repairs: whether pull repair works.
        seed: of links, losses and moments.
    """

    nodes: int = 16
    rate: int = 10
    seconds: int = 60
    size: int = 1_024
    dials: int = 4
    lossy: float = 0.0
    loss: float = 0.2
    drop: float = 0.0
    delay: int = 0
    repairs: bool = True
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; delays in ms.

    `expected` is published records times other nodes. `cpu_ms` is for a record at a node: all its
    processor time divided by all records of the run, idling included.
    """

    links: int
    lossy_links: int
    published: int
    expected: int
    delivered: int
    delivered_percent: float
    repaired: int
    p50_ms: int
    p99_ms: int
    max_ms: int
    cpu_ms: float
    rss_mib: float
    others_percent: float
    commit: str
    machine: str


def failures(options: Options, figures: Figures) -> list[str]:
    """What of it is under the bar; a run without repair has none."""
    if not options.repairs:
        return []
    percent = PERCENT_LOSSY if options.lossy else PERCENT_CLEAR
    found: list[str] = []
    if figures.delivered_percent < percent:
        found.append(f"{figures.delivered_percent} % delivered, at least {percent} %")
    if figures.p99_ms > P99_MS:
        found.append(f"p99 {figures.p99_ms} ms, at most {P99_MS} ms")
    return found


class _Node:
    """A process and its lines."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._waiting = b""

    @classmethod
    async def start(cls, number: int, *, repairs: bool) -> Self:
        told = msgspec.json.encode(Told(seed=number + 1, repairs=repairs)).decode()
        command = [sys.executable, "-m", "prsm.testnet.gossiper", told]
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return cls(process)

    async def stop(self) -> None:
        self.process.kill()
        await self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            await stream.aclose()

    async def say(self, what: msgspec.Struct) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(msgspec.json.encode(what) + b"\n")

    async def read(self) -> bytes:
        assert self.process.stdout is not None
        while b"\n" not in self._waiting:
            data = await self.process.stdout.receive_some(LINE_BYTES)
            if not data:
                raise RuntimeError("a gossiping node ended before its report")
            self._waiting += data
        line, _, self._waiting = self._waiting.partition(b"\n")
        return line


def run_gossip(options: Options) -> Figures:
    """Measure."""
    return trio.run(_run, options)


async def _run(options: Options) -> Figures:
    dice = random.Random(options.seed)
    links = draw_links(options, dice)
    lossy = {link for link in links if dice.random() < options.lossy}
    with ExitStack() as stack:
        is_worse = lossy or options.delay
        proxy = Proxy.bind(options.nodes, seed=options.seed) if is_worse else None
        if proxy is not None:
            stack.callback(proxy.close)
        nodes: list[_Node] = []
        try:
            with trio.fail_after(START_SECONDS):
                for number in range(options.nodes):
                    node = await _Node.start(number, repairs=options.repairs)
                    nodes.append(node)  # at once: what was started is killed
            async with trio.open_nursery() as nursery:
                addresses = await _listen(nodes, proxy, nursery)
                _worsen(proxy, links, lossy, options)
                await _join(nodes, _orders(options, links, lossy, (addresses, proxy)))
                reading, began = _reading(nodes), time.monotonic()
                reports = await _speak(nodes, options, dice)
                others = reading.others_percent(_reading(nodes), time.monotonic() - began)
                nursery.cancel_scope.cancel()
        finally:
            with trio.move_on_after(STOP_SECONDS, shield=True):
                for node in nodes:
                    await node.stop()
    return _figures(reports, (len(links), len(lossy)), others)


def draw_links(options: Options, dice: random.Random) -> list[tuple[int, int]]:
    """Draw who dials whom: each some others, nobody twice."""
    links: set[tuple[int, int]] = set()
    for dialler in range(options.nodes):
        others = [each for each in range(options.nodes) if each != dialler]
        for dialled in dice.sample(others, min(options.dials, len(others))):
            if (dialled, dialler) not in links:
                links.add((dialler, dialled))
    return sorted(links)


async def _listen(nodes: Sequence[_Node], proxy: Proxy | None, nursery: trio.Nursery) -> list[str]:
    addresses: list[str] = []
    with trio.fail_after(START_SECONDS):
        for node in nodes:
            said = msgspec.json.decode(await node.read(), type=dict[str, str])
            addresses.append(said["address"])
    if proxy is not None:
        await nursery.start(proxy.run, [int(address.split("/")[4]) for address in addresses])
    return addresses


def _worsen(
    proxy: Proxy | None,
    links: Sequence[tuple[int, int]],
    lossy: set[tuple[int, int]],
    options: Options,
) -> None:
    if proxy is None:
        return
    for one, other in links:
        loss = options.loss if (one, other) in lossy else 0.0
        proxy.set(one, other, Conditions(delay_ms=options.delay, loss=loss))
        proxy.set(other, one, Conditions(delay_ms=options.delay, loss=loss))


def _orders(
    options: Options,
    links: Sequence[tuple[int, int]],
    lossy: set[tuple[int, int]],
    where: tuple[Sequence[str], Proxy | None],
) -> list[Orders]:
    addresses, proxy = where
    orders = [Orders(dial=[], deaf_to=[], drop=options.drop) for _ in addresses]
    for dialler, dialled in links:
        words = addresses[dialled].split("/")
        if proxy is not None and (options.delay or (dialler, dialled) in lossy):
            words[4] = str(proxy.port(dialler, dialled))
        if (dialler, dialled) in lossy:
            orders[dialler].deaf_to.append(words[-1])
            orders[dialled].deaf_to.append(addresses[dialler].split("/")[-1])
        orders[dialler].dial.append("/".join(words))
    return orders


async def _join(nodes: Sequence[_Node], orders: Sequence[Orders]) -> None:
    for node, order in zip(nodes, orders, strict=True):
        await node.say(order)
    with trio.fail_after(START_SECONDS):
        for node in nodes:
            await node.read()


async def _speak(nodes: Sequence[_Node], options: Options, dice: random.Random) -> list[Heard]:
    begin_ms = time.time_ns() // 1_000_000 + LEAD_MS
    count = options.rate * options.seconds
    moments: list[list[int]] = [[] for _ in nodes]
    for number in range(count):  # at any moment of its slot, by anybody
        at_ms = begin_ms + (number * 1000 + dice.randrange(1000)) // options.rate
        dice.choice(moments).append(at_ms)
    until_ms = begin_ms + options.seconds * 1000 + SETTLE_MS
    for node, mine in zip(nodes, moments, strict=True):
        await node.say(Speech(at_ms=sorted(mine), until_ms=until_ms, size_bytes=options.size))
    return [msgspec.json.decode(await node.read(), type=Heard) for node in nodes]


def _reading(nodes: Sequence[_Node]) -> Reading:
    return Reading.of(tuple(node.process.pid for node in nodes))


def _figures(reports: Sequence[Heard], links: tuple[int, int], others: float) -> Figures:
    published = sum(report.published for report in reports)
    expected = published * (len(reports) - 1)
    delays = sorted(
        delay for report in reports for each in report.heard.values() for _, delay in each
    )
    unique = sum(len({key for key, _ in each}) for r in reports for each in r.heard.values())
    assert unique == len(delays), "a record was told twice"
    cpu_s = sum(report.cpu_s for report in reports) / len(reports)
    return Figures(
        links=links[0],
        lossy_links=links[1],
        published=published,
        expected=expected,
        delivered=len(delays),
        delivered_percent=round(100 * len(delays) / max(1, expected), 4),
        repaired=sum(report.repaired for report in reports),
        p50_ms=_percentile(delays, 50),
        p99_ms=_percentile(delays, 99),
        max_ms=delays[-1] if delays else 0,
        cpu_ms=round(1000 * cpu_s / max(1, published), 2),
        rss_mib=max(report.rss_mib for report in reports),
        others_percent=round(others, 1),
        commit=commit(),
        machine=machine(),
    )


def _percentile(ordered: Sequence[int], percent: int) -> int:
    if not ordered:
        return 0
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def main(arguments: Sequence[str]) -> int:
    """Measure as the command line says, print the document, say what is under the bar."""
    parser = argparse.ArgumentParser(prog="prsm-testnet gossip")
    for field in msgspec.structs.fields(Options):
        parser.add_argument(f"--{field.name}", default=str(field.default), help="%(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    given = vars(parser.parse_args(arguments))
    as_json = bool(given.pop("json"))
    options = msgspec.convert(given, Options, strict=False)
    figures = run_gossip(options)
    document = {**msgspec.structs.asdict(options), **asdict(figures)}
    sys.stdout.write(plain(document, as_json=as_json) + "\n")
    broken = failures(options, figures)
    for what in broken:
        sys.stderr.write(f"failed: {what}\n")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
