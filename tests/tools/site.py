"""All handlers of a node over a chain of one validator, asked in JSON; no HTTP, no worker."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

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
from prsm.node.chain.chain import ChainParts
from prsm.node.chain.outbox import Outbox, validators_linked
from prsm.node.chain.proofs import Proofs
from prsm.node.chain.wallets import Payer, Wallets
from prsm.node.config.schema import Config
from prsm.node.guests import open_guests
from prsm.node.home import Home
from prsm.node.inference.evaluation.requester import Evaluations
from prsm.node.inference.generate.service import Generations
from prsm.node.inference.interface import AllowAll, NoRunner
from prsm.node.inference.jobrun import Requester
from prsm.node.inference.jobs import Jobs
from prsm.node.inference.links import Links
from prsm.node.models import Models, Tools
from prsm.node.net.network import PeerNetwork
from prsm.node.net.reach import Reach, ReachConfig
from prsm.node.peers.announce import Announcer, Ground
from prsm.node.replication.copies import CopyShelf
from prsm.node.replication.driver import Parts as CopyParts
from prsm.node.replication.driver import Repair
from prsm.node.replication.upkeep import Ground as UpkeepGround
from prsm.node.replication.upkeep import Upkeep
from prsm.node.rpc.dispatch import Dispatcher, Handler, bind
from prsm.node.rpc.methods.table import METHODS
from prsm.node.work.account import Account
from prsm.node.work.search import open_search
from prsm.node.work.serving import open_serving
from prsm.node.workplans.plans import open_plans
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.genesis import Parameters
from prsm.protocol.ids import TxId
from prsm.storage.store.model_store import ModelStore
from tests.tools.labs import Cluster, make_cluster
from tests.tools.relays import carrier_of
from tests.tools.rpc_node import ANYBODY

_Made = tuple[Models, Jobs, Announcer, Reach, Repair, Wallets]


@dataclass
class Site:
    """A node to ask."""

    cluster: Cluster
    parts: ChainParts
    models: Models
    announcer: Announcer
    home: Home
    dispatcher: Dispatcher
    stopped: trio.Event
    faults: list[str] = field(default_factory=list)

    async def ask(self, method: str, **params: object) -> Any:  # noqa: ANN401 - any JSON
        """The result; an error of the node fails the test."""
        answer = await self._say(method, params)
        assert "result" in answer, answer
        return answer["result"]

    async def refused(self, method: str, **params: object) -> tuple[int, str]:
        """Code and reason of the error it is answered with."""
        error = await self.error(method, **params)
        return error["code"], error["data"]["reason"]

    async def error(self, method: str, **params: object) -> Any:  # noqa: ANN401 - any JSON
        """The whole error it is answered with."""
        answer = await self._say(method, params)
        assert "error" in answer, answer
        assert self.faults == [], "an untyped exception reached the door"
        return answer["error"]

    async def committed(self, tx_id: str) -> None:
        """Wait until a transaction of this node is in a block; the caller sets the deadline."""
        await self.parts.wallet.wait_committed(TxId(bytes.fromhex(tx_id[2:])))

    async def _say(self, method: str, params: dict[str, object]) -> Any:  # noqa: ANN401 - any JSON
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = await self.dispatcher.answer(json.dumps(call).encode(), ANYBODY)
        assert reply is not None
        return json.loads(reply)


@asynccontextmanager
async def open_site(
    folder: Path,
    *,
    unlocked: bool = True,
    others: int = 1,
    parameters: Parameters | None = None,
    strangers: Iterable[bytes] = (),
) -> AsyncIterator[Site]:
    """A validator alone, with a wallet and a model store and no worker program."""
    cluster = make_cluster(
        folder, validators=1, others=others, parameters=parameters, strangers=strangers
    )
    home = Home(folder / "home")
    home.create()
    key = home.wallet_key("default")
    key.write_bytes((cluster.labs[0].folder / "wallet.key").read_bytes())
    key.chmod(0o600)
    store = await ModelStore.open(home.blocks, quota=2**24)
    made: list[_Made] = []

    def prepare(parts: ChainParts) -> None:
        made.append(_make_work(cluster, parts, home, store))

    try:
        async with (
            cluster.node(0, unlocked=unlocked, prepare=prepare) as parts,
            trio.open_nursery() as nursery,
        ):
            yield await _join(nursery, cluster, parts, home, made[0])
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await store.close()


def _make_work(cluster: Cluster, parts: ChainParts, home: Home, store: ModelStore) -> _Made:
    driver, wallet, network = parts.driver, parts.wallet, parts.driver.network
    wallets = Wallets(home, Payer(cluster.genesis, driver, parts.admission), wallet)
    linked = partial(validators_linked, driver)
    outbox = Outbox(home.data / "outbox.db", wallets.get, driver.clock, linked)
    models = Models(
        Tools(
            store=store,
            pool=None,
            network=network,
            driver=driver,
            wallet=wallet,
            outbox=outbox,
            scratch=home.models,
        )
    )
    account = Account(driver, wallet, chain_id=cluster.genesis.chain_id)
    links = Links(network, account, Ed25519Verifier())
    jobs = Jobs(Requester(links, account, models, NoRunner(), AllowAll(), driver.clock))
    ground = Ground(
        chain_id=cluster.genesis.chain_id,
        signer=Ed25519Signer(bytes([1]) * 32),
        verifier=Ed25519Verifier(),
        clock=driver.clock,
        dice=lambda _n: 0,
        salt=b"salt",
    )
    assert isinstance(network, PeerNetwork)
    reach = Reach(
        network,
        carrier_of(network._transport),
        listening=lambda: network._transport.addresses,
        config=ReachConfig(region="here"),
        now_ms=driver.clock.monotonic_ms,
    )
    announcer = Announcer(network, ground)

    def size_of(cid: bytes) -> int | None:
        named = driver.ledger.view.model_by_cid(cid)
        return None if named is None else named.total_bytes

    repair = Repair(
        CopyParts(
            announcer=announcer,
            network=network,
            clock=driver.clock,
            shelf=CopyShelf(models, store, driver, keep_bytes=2**20),
            size_of=size_of,
            bonded=frozenset,
            region="here",
        )
    )
    return models, jobs, announcer, reach, repair, wallets


async def _join(
    nursery: trio.Nursery,
    cluster: Cluster,
    parts: ChainParts,
    home: Home,
    made: _Made,
) -> Site:
    models, jobs, announcer, reach, repair, wallets = made
    driver, wallet, genesis = parts.driver, parts.wallet, cluster.genesis
    network = driver.network
    assert isinstance(network, PeerNetwork)
    generations = Generations(jobs._requester, None)
    for run in (models.run, jobs.run, announcer.run, reach.run, generations.run):
        await nursery.start(run)
    ground = UpkeepGround(driver, wallet, models._tools.store, home.data, models._tools.outbox)
    upkeep = Upkeep(ground, repair)
    await nursery.start(wallets.run)
    cards = open_search(home, models, driver, None).cards
    account = Account(driver, wallet, chain_id=genesis.chain_id)
    plans = open_plans(home, models._tools.store, jobs=jobs, chain=account, finder=cards)
    evaluations = Evaluations(network, account, models, Ed25519Verifier())
    room = open_serving(jobs._requester, models, driver, None, data=home.data)
    for run in (upkeep.run, room.run, plans.run, evaluations.run):
        await nursery.start(run)
    proofs, stopped, faults = Proofs(genesis, driver), trio.Event(), list[str]()
    node = Parts(
        home=home,
        config=Config(),
        genesis=genesis,
        network=network,
        chain=parts,
        models=models,
        jobs=jobs,
        started_ms=driver.clock.wall_ms(),
        rpc=lambda: "http://127.0.0.1:1",
        stop=stopped.set,
    )
    handlers = {
        **open_guests(home, driver.clock, node.rpc).handlers,
        **NodeApi(node).handlers(),
        **NetApi(network).handlers(),
        **GossipApi(announcer).handlers(),
        **ReachApi(reach, driver.clock).handlers(),
        **ChainApi(genesis, driver, wallet, proofs).handlers(),
        **LedgerApi(driver.ledger).handlers(),
        **WalletApi(wallets, driver).handlers(),
        **GovernanceApi(wallets, driver).handlers(),
        **ValidatorApi(home, wallets, driver).handlers(),
        **ModelsApi(models).handlers(),
        **RegistryApi(models, driver, models._tools.outbox, cards).handlers(),
        **step_handlers(models, plans, evaluations, driver),
        **ServingApi(room.serving, models, driver, models._tools.outbox).handlers(),
        **TasksApi(models.tasks).handlers(),
        **storage_handlers(models, models._tools.store, upkeep),
        **ChatApi(models).handlers(),
        **GenerationApi(models, generations).handlers(),
        **work_handlers(models, jobs, driver, proofs),
    }
    dispatcher = _bind(handlers, faults)
    return Site(cluster, parts, models, announcer, home, dispatcher, stopped, faults)


def _bind(handlers: dict[str, Handler], faults: list[str]) -> Dispatcher:
    # What needs a process of its own is bound in `entrance`, and tested with it.
    methods = {name: METHODS[name] for name in handlers}
    return bind(
        handlers,
        methods=methods,
        on_fault=lambda method, _trace, error: faults.append(f"{method}: {error!r}"),
    )
