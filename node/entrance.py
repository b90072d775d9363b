"""What clients reach: every method with its handler, the layers around them, the door.

Knows: the handlers of all rooms, the order of the layers. Must not know: how a room works, HTTP.
"""

import functools
from collections.abc import Callable, Iterator

import trio

from prsm.node.api.care import CareApi
from prsm.node.api.chain import ChainApi
from prsm.node.api.chat import ChatApi
from prsm.node.api.generation import GenerationApi
from prsm.node.api.gossip import GossipApi
from prsm.node.api.governance import GovernanceApi
from prsm.node.api.keeping import storage_handlers
from prsm.node.api.ledger import LedgerApi
from prsm.node.api.models import ModelsApi
from prsm.node.api.net import NetApi
from prsm.node.api.node import NodeApi, Parts
from prsm.node.api.offers import work_handlers
from prsm.node.api.plans import step_handlers
from prsm.node.api.reach import ReachApi
from prsm.node.api.registry import RegistryApi
from prsm.node.api.serving import ServingApi
from prsm.node.api.tasks import TasksApi
from prsm.node.api.validator import ValidatorApi
from prsm.node.api.wallet import WalletApi
from prsm.node.api.worker import Bench, WorkerApi
from prsm.node.books import open_books
from prsm.node.callers.once import open_once
from prsm.node.chain.proofs import Proofs
from prsm.node.config.schema import Config
from prsm.node.guests import Guests, open_guests
from prsm.node.measuring import Measures, count_calls, trace_call
from prsm.node.rpc.dispatch import Dispatcher, Handler, bind
from prsm.node.supervise import Supervisor
from prsm.node.telemetry import metrics
from prsm.node.telemetry.events import Events
from prsm.node.version import VERSION
from prsm.node.web.app import Health, Pages, beside, fence, log_fault
from prsm.node.web.dashboard import dashboard_pages
from prsm.node.web.metrics import metrics_pages
from prsm.node.web.openai import World, openai_pages
from prsm.node.web.serve import Bound, Bounds, Door, serve
from prsm.node.web.tls import AllowFrom, Tls
from prsm.node.work.workshop import Opened, Start, Workshop
from prsm.storage.keystore import load_seed


async def open_entrance(
    opened: Opened, work: Workshop, nursery: trio.Nursery, stop: Callable[[], None]
) -> None:
    """Bind every method to its handler and open the door; returns once it accepts.

    Args:
        opened: the rooms the daemon opened.
        work: the rooms that do work.
        nursery: owns the door; cancelling it closes the door, with what runs in it.
        stop: ends the node; what `node_stop` does.

    Raises:
        PortTaken, PublicBind: the door cannot be opened where the configuration says.
        TokensDamaged, TlsUnusable: a file of tokens, or the certificate, cannot be read.
    """
    start, chain = opened.start, opened.chain
    bound: list[Bound] = []
    await nursery.start(work.wallets.run)
    node = NodeApi(
        Parts(
            home=start.home,
            config=start.config,
            genesis=opened.genesis,
            network=opened.network,
            chain=chain,
            models=work.models,
            jobs=work.jobs,
            started_ms=chain.driver.clock.wall_ms(),
            rpc=lambda: bound[0].http if bound else "",
            stop=stop,
            holding=lambda: work.hands.drain.told() if work.hands is not None else "",
        )
    )
    guests = _guests(opened, bound)
    books = await open_books(opened, work, guests.tokens)
    await nursery.start(books.run)
    measures = Measures(opened, work, metrics.here() or metrics.Metrics())
    await nursery.start(Supervisor("measures").run, measures.run)
    node.firing = measures.alerts.firing.values
    seed = load_seed(start.home.node_key)
    once = await open_once(nursery, start.home.answers, chain.driver.clock, seed)
    live = guests.layers(once.layer)
    dispatcher = bind(
        _handlers(opened, work, node) | books.handlers() | guests.handlers,
        fence=fence,
        on_fault=log_fault,
        layers=(trace_call, count_calls(measures.metrics), *live, *books.layers),
        on_refused=books.refusals.note,
    )
    more = (dashboard_pages, _v1(dispatcher, opened), *_numbers(start.config, measures))
    pages = beside(guests.pages, *more)
    open_door = functools.partial(
        serve,
        dispatcher,
        door=_door(start, guests, work.feed.events, _tls(opened, measures.metrics)),
        health=Health(start.config.node.name, VERSION, node.why_not_ready),
        bounds=Bounds(connections=start.config.rpc.max_conns),
        pages=pages,
    )
    bound.append(await nursery.start(open_door))


def _guests(opened: Opened, bound: list[Bound]) -> Guests:
    """Who is let in beside the operator."""
    start, clock = opened.start, opened.chain.driver.clock
    rpc, login = start.config.rpc, start.config.login
    base = functools.partial(_called, start, bound)
    return open_guests(start.home, clock, base, is_on=rpc.jwt, login=login)


def _called(start: Start, bound: list[Bound]) -> str:
    """How a browser finds the node."""
    names = start.config.rpc.hosts
    return f"{bound[0].scheme}://{names[0]}" if names else bound[0].url


def _door(start: Start, guests: Guests, events: Events, tls: Tls | None) -> Door:
    """Where to listen, and for whom."""
    rpc, home = start.config.rpc, start.home
    return Door(
        host=rpc.host,
        port=rpc.port,
        cookie=home.cookie,
        socket_path=home.socket if rpc.unix else None,
        endpoint=home.endpoint,
        tokens=guests.tokens if rpc.jwt else None,
        tls=tls,
        names=rpc.hosts,
        allow=AllowFrom(rpc.allow_from),
        events=events,
    )


def _tls(opened: Opened, numbers: metrics.Metrics) -> Tls | None:
    """The certificate of the door, which says how long it is good yet."""
    rpc, root, clock = opened.start.config.rpc, opened.start.home.root, opened.chain.driver.clock
    if not rpc.tls_cert:
        return None
    tls = Tls(root / rpc.tls_cert, root / rpc.tls_key)

    def tell(found: metrics.Metrics) -> None:
        found.put("prsm_rpc_certificate_left_seconds", tls.left_s(clock.wall_ms() / 1000))

    numbers.on_read(tell)
    return tls


def _numbers(config: Config, measures: Measures) -> Iterator[Pages]:
    """The page of the metrics, where it is wanted."""
    if config.metrics.prometheus:
        yield functools.partial(metrics_pages, measures.metrics)


def _v1(dispatcher: Dispatcher, opened: Opened) -> Pages:
    """The OpenAI API over all methods."""
    driver = opened.chain.driver
    return openai_pages(dispatcher, World(driver.clock.wall_ms, lambda: driver.ledger.height))


def _handlers(opened: Opened, work: Workshop, node: NodeApi) -> dict[str, Handler]:
    """Method name -> handler, of all rooms."""
    chain, start, wallets = opened.chain, opened.start, work.wallets
    outbox = work.upkeep.outbox
    proofs = Proofs(opened.genesis, chain.driver)
    return {
        **node.handlers(),
        **CareApi(start.home, start.config, node.handlers()).handlers(),
        **ChainApi(opened.genesis, chain.driver, chain.wallet, proofs).handlers(),
        **NetApi(opened.network).handlers(),
        **ReachApi(opened.reach, chain.driver.clock).handlers(),
        **GossipApi(work.beacons.announcer).handlers(),
        **LedgerApi(chain.driver.ledger).handlers(),
        **WalletApi(wallets, chain.driver).handlers(),
        **GovernanceApi(wallets, chain.driver).handlers(),
        **ValidatorApi(start.home, wallets, chain.driver).handlers(),
        **ModelsApi(work.models, is_stale=node.is_stale).handlers(),
        **RegistryApi(work.models, chain.driver, outbox, work.search.cards).handlers(),
        **TasksApi(work.models.tasks).handlers(),
        **storage_handlers(
            *(work.models, opened.store, work.upkeep),
            guard=opened.guard,
            extra=start.config.storage.extra_stores,
        ),
        **ChatApi(work.models).handlers(),
        **GenerationApi(work.models, work.generating.generations).handlers(),
        **work_handlers(work.models, work.jobs, chain.driver, proofs),
        **step_handlers(work.models, work.plans, work.evaluation.ours, chain.driver),
        **ServingApi(work.room.serving, work.models, chain.driver, outbox).handlers(),
        **_worker(opened, work).handlers(),
    }


def _worker(opened: Opened, work: Workshop) -> WorkerApi:
    """The operator's side of work for others."""
    hands, clock = work.hands, opened.chain.driver.clock
    sessions = work.generating.sessions
    bench = None
    if hands is not None:
        bench = Bench(hands.offer, hands.executor, sessions, hands.drain)
    return WorkerApi(bench, work.claims, work.earnings, opened.start.config.worker, clock)
