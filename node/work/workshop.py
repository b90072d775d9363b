"""What one node works with: models, jobs, serving, generation, and what is said of them.

Knows: every room that works, by its constructor, nothing of what it does. Must not know: the door,
how a process begins and ends (`daemon`).
"""

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from prsm.consensus.ledger.records import Job
from prsm.node.api.feed import Feed, Rooms
from prsm.node.chain.chain import ChainParts
from prsm.node.chain.outbox import Outbox, validators_linked
from prsm.node.chain.wallets import Payer, Wallets
from prsm.node.clock import Clock, TrioClock
from prsm.node.config.schema import Config
from prsm.node.home import Home
from prsm.node.inference.claims import Claims
from prsm.node.inference.desk import Desk
from prsm.node.inference.drain import DRAINING, Drain
from prsm.node.inference.earned import Earnings, ended_of
from prsm.node.inference.evaluation.room import EvaluationRoom, open_evaluation
from prsm.node.inference.executor import Executor
from prsm.node.inference.generate.room import Generating
from prsm.node.inference.interface import AllowAll, NoRunner
from prsm.node.inference.jobrun import Requester
from prsm.node.inference.jobs import Jobs
from prsm.node.inference.links import Links
from prsm.node.inference.offering import offer_work
from prsm.node.inference.pool import Pool
from prsm.node.inference.review import Reviewer
from prsm.node.inference.roomy import RoomyDisk
from prsm.node.inference.shards import ShardCache
from prsm.node.inference.strict import policy_for
from prsm.node.inference.terms import Terms
from prsm.node.inference.workoffer import WorkOffer
from prsm.node.models import Models
from prsm.node.net.interface import Network
from prsm.node.net.network import PeerNetwork
from prsm.node.net.reach import Reach
from prsm.node.peers.beacons import Beacons, Labour, make_beacons
from prsm.node.peers.finding import Finding
from prsm.node.replication.copies import make_repair
from prsm.node.replication.upkeep import Ground, Upkeep
from prsm.node.rpc.methods.subscriptions import TOPICS
from prsm.node.supervise import Supervisor
from prsm.node.telemetry.events import Events
from prsm.node.telemetry.notify import Notifier
from prsm.node.work.account import Account
from prsm.node.work.checking import Checking, open_checking
from prsm.node.work.search import Search, open_search
from prsm.node.work.serving import ServingRoom, open_serving
from prsm.node.work.warehouse import Beneath, make_models
from prsm.node.workplans.plans import Plans, open_plans
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.genesis import Genesis
from prsm.protocol.receipts import WorkReceipt
from prsm.storage.diskguard import DiskGuard
from prsm.storage.jobs import kept_jobs
from prsm.storage.keystore import load_seed
from prsm.storage.receipts import ReceiptFiles
from prsm.storage.store.model_store import ModelStore


@dataclass(frozen=True, slots=True)
class Start:
    """What a process is started with."""

    home: Home
    config: Config
    password: str | None  # of the payment key; None: it stays locked
    worker_command: Sequence[str] = (sys.executable, "-m", "prsm.node.worker")
    clock: Clock = field(default_factory=TrioClock)
    around: Callable[[Home, Network], Network] = lambda _home, network: network
    notifier: Notifier = field(
        default_factory=Notifier
    )  # the service manager, if it asked to be told


@dataclass(frozen=True, slots=True)
class Opened:
    """What was opened from the data folder, not running yet."""

    start: Start
    genesis: Genesis
    network: PeerNetwork
    reach: Reach
    chain: ChainParts
    store: ModelStore
    guard: DiskGuard


@dataclass(frozen=True, slots=True)
class _Tools:
    """What work for others needs beside the pool."""

    account: Account
    models: Models
    claims: Claims
    terms: Terms
    checking: Checking


@dataclass(frozen=True, slots=True)
class Hands:
    """What works for others; only where a worker program runs."""

    desk: Desk
    shards: ShardCache
    executor: Executor
    labour: Labour
    offer: WorkOffer
    drain: Drain


@dataclass(frozen=True, slots=True)
class Workshop:
    """What one node works with: models, jobs, and what is said of them."""

    pool: Pool | None
    wallets: Wallets
    models: Models
    hands: Hands | None
    claims: Claims
    earnings: Earnings
    links: Links
    jobs: Jobs
    beacons: Beacons
    finding: Finding
    search: Search
    upkeep: Upkeep
    plans: Plans
    evaluation: EvaluationRoom
    room: ServingRoom
    generating: Generating
    checking: Checking
    feed: Feed


def make_workshop(opened: Opened) -> Workshop:
    """Join the rooms that work; nothing runs yet."""
    start, config = opened.start, opened.start.config
    driver, wallet, network = opened.chain.driver, opened.chain.wallet, opened.network
    pool = _make_pool(start)
    wallets, outbox = _make_outbox(opened)
    beneath = Beneath(opened.store, opened.chain, network, outbox)
    models = make_models(start.home, config.storage, beneath, pool)
    account = Account(driver, wallet, chain_id=opened.genesis.chain_id)
    claims, earnings = _make_claims(start.home, network, account)
    terms = Terms(config.worker.price_microftns, config.executor.memory_bytes)
    checking = open_checking(start.home, config, driver, account)
    tools = _Tools(account, models, claims, terms, checking)
    hands = _make_hands(opened, pool, tools) if pool is not None else None
    links = Links(network, account, Ed25519Verifier(), evidence=checking.evidence)
    shards = hands.shards if hands else None
    requester = Requester(
        *(links, account, models, pool or NoRunner(), AllowAll(), driver.clock),
        shards=shards,
        reviewer=Reviewer.of(shards, percent=config.jobs.check_percent),
    )
    jobs = Jobs(requester, keep=functools.partial(kept_jobs, start.home.data / "jobs.db"))
    seed, region = load_seed(start.home.node_key), config.net.region
    beacons = make_beacons(
        seed, driver, account, models, labour=hands.labour if hands else None, region=region
    )
    models.fetching.holders = beacons.holders
    beacons.on_block(opened.chain.sync.hear_block)
    repair = make_repair(models, opened.store, driver, beacons, config.storage, region)
    upkeep = Upkeep(Ground(driver, wallet, opened.store, start.home.data, outbox), repair)
    finding = Finding(network, config.net, driver, opened.genesis, start.home.addresses)
    _let_find(opened, finding, beacons)
    models.fetching.seek = finding.holders.seek
    requester.market.recruit = finding.recruits(beacons.announcer).seek
    search = open_search(start.home, models, driver, pool)
    plans = open_plans(start.home, opened.store, jobs=jobs, chain=account, finder=search.cards)
    room = open_serving(requester, models, driver, pool, data=start.home.data)
    desk, notes = hands.desk if hands else None, start.home.data / "generations"
    generating = Generating(requester, pool, desk, terms, notes=notes)
    rooms = Rooms(driver, network, finding.discovery, jobs, generating.generations, models)
    return Workshop(
        pool=pool,
        wallets=wallets,
        models=models,
        hands=hands,
        claims=claims,
        earnings=earnings,
        links=links,
        jobs=jobs,
        beacons=beacons,
        finding=finding,
        search=search,
        upkeep=upkeep,
        plans=plans,
        evaluation=open_evaluation(links, account, models, hands.desk if hands else None, terms),
        room=room,
        generating=generating,
        checking=checking,
        feed=Feed(rooms, Events(TOPICS)),
    )


def _let_find(opened: Opened, finding: Finding, beacons: Beacons) -> None:
    """Join what finds peers to those who ask for them."""
    finding.serve(opened.store, beacons.holders)
    finding.discovery.more_addresses = opened.reach.addresses
    opened.network.send_elsewhere(finding.discovery.elsewhere)


def _make_outbox(opened: Opened) -> tuple[Wallets, Outbox]:
    """The keys of this home, and what they have ordered of the ledger."""
    home, driver = opened.start.home, opened.chain.driver
    payer = Payer(opened.genesis, driver, opened.chain.admission)
    wallets = Wallets(home, payer, opened.chain.wallet)
    linked = functools.partial(validators_linked, driver)
    return wallets, Outbox(home.data / "outbox.db", wallets.get, driver.clock, linked)


def _make_pool(start: Start) -> Pool | None:
    executor = start.config.executor
    if not executor.enabled:
        return None
    return Pool(
        jobs_dir=start.home.jobs,
        memory_bytes_max=executor.memory_bytes,
        command=(*start.worker_command, *executor.worker_words),
    )


def _make_hands(opened: Opened, pool: Pool, tools: _Tools) -> Hands:
    config, network, clock = opened.start.config, opened.network, opened.chain.driver.clock
    account, models, terms = tools.account, tools.models, tools.terms
    shards = ShardCache(
        *(pool, models),
        is_joining=config.executor.join_rows,
        provider=config.executor.provider,
    )
    rules = RoomyDisk(policy_for(config.executor, pool), lambda: opened.guard.is_low)
    drain = Drain(network, lambda: tools.claims.unbound)
    offer = WorkOffer(
        *(terms, rules, opened.start.home.data / "worker.json"),
        hindrances=(
            lambda: DRAINING if drain.is_on else "",
            lambda: "" if pool.runtime else "the worker program is not running",
            lambda: "the payment key is locked" if opened.chain.wallet.is_locked else "",
            lambda: "the disk of this machine is nearly full" if opened.guard.is_low else "",
        ),
    )
    desk = Desk(
        *(network, account, models, shards, tools.claims, offer, Ed25519Verifier(), clock),
        evidence=tools.checking.work_with(models, shards),
        drain=drain,
    )
    executor = Executor(desk, terms)
    standing = offer.offered(rules.offered(executor.standing))
    offer_work(network, account, models, standing, clock)
    labour = Labour(standing, lambda: terms.units_max, pool.limits.memory_bytes_max)
    return Hands(desk, shards, executor, labour, offer, drain)


def _make_claims(home: Home, network: PeerNetwork, account: Account) -> tuple[Claims, Earnings]:
    """What this node is owed, and the account of what it was paid."""
    earnings = Earnings(home.data / "earnings.db")
    claims = Claims(
        *(network, account, ReceiptFiles(home.data / "receipts"), Ed25519Verifier()),
        on_over=functools.partial(_note, earnings, account),
    )
    return claims, earnings


async def _note(
    earnings: Earnings, account: Account, receipt: WorkReceipt, job: Job | None
) -> None:
    """Note what a unit of ours came to."""
    height, time_ms = account.height(), account.block_time_ms()
    await earnings.note(ended_of(receipt, job, height=height, time_ms=time_ms))


async def start_workshop(work: Workshop, nursery: trio.Nursery) -> None:
    """Start what works, the ground first."""
    if work.pool is not None:
        await nursery.start(Supervisor("worker").run, functools.partial(_keep_pool, work.pool))
    if work.hands is not None:
        await nursery.start(work.hands.shards.run)
    if work.models.outside is not None:
        await nursery.start(Supervisor("sources").run, work.models.outside.run)
    for name, part in (("models", work.models.run), ("search", work.search.run)):
        await nursery.start(Supervisor(name).run, part)
    await nursery.start(work.earnings.run)
    await nursery.start(Supervisor("claims").run, work.claims.run)
    await nursery.start(work.checking.run)
    if work.hands is not None:
        await nursery.start(work.hands.executor.run)
        await nursery.start(work.hands.drain.run)
    await nursery.start(work.generating.run)
    await nursery.start(work.jobs.run)
    await nursery.start(work.plans.run)
    await nursery.start(work.evaluation.run)
    await nursery.start(Supervisor("serving").run, work.room.run)
    await nursery.start(Supervisor("announcements").run, work.beacons.run)
    await nursery.start(work.upkeep.run)
    await nursery.start(Supervisor("events").run, work.feed.run)


async def _keep_pool(pool: Pool, *, task_status: trio.TaskStatus[None]) -> None:
    """Run the pool; the node is up without it, since agreement needs no worker program."""
    task_status.started()
    await pool.run()
