"""Handlers of rpc_, node_ and net_: the node itself.

Knows: what the daemon tells it of its parts. Must not know: transports.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from prsm.node.chain.chain import ChainParts
from prsm.node.clock import utc_text
from prsm.node.config.schema import Config
from prsm.node.home import Home
from prsm.node.inference.jobs import Jobs
from prsm.node.memory import rss_bytes
from prsm.node.models import Models
from prsm.node.net.network import PeerNetwork
from prsm.node.rpc.dispatch import (
    BATCH_ANSWER_BYTES_MAX,
    BATCH_CALLS_MAX,
    BODY_BYTES_MAX,
    Handler,
)
from prsm.node.rpc.methods import node as api
from prsm.node.rpc.methods.subscriptions import (
    CALLS_MAX,
    MESSAGE_BYTES_MAX,
    SUBSCRIPTIONS_MAX,
)
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.openrpc import document
from prsm.node.rpc.reasons import REGISTRY
from prsm.node.rpc.spec import Caller, NoParams
from prsm.node.supervise import Supervisor
from prsm.node.telemetry.alerts import Change
from prsm.node.version import CLIENT_MIN, VERSION
from prsm.protocol.framing import PROTOCOL_VERSION
from prsm.protocol.genesis import Genesis
from prsm.protocol.identity import is_circuit
from prsm.protocol.ids import address_text

# A node that nobody answers serves what it has; until then "ready" would be a guess.
ALONE_MS: Final = 10_000
State = Literal["starting", "syncing", "ready", "stopping"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What `node_getStatus` looks at."""

    home: Home
    config: Config
    genesis: Genesis
    network: PeerNetwork
    chain: ChainParts
    models: Models
    jobs: Jobs
    started_ms: int  # wall clock
    rpc: Callable[[], str]  # address of the HTTP side
    stop: Callable[[], None]
    holding: Callable[[], str] = str  # what is still done for others by a node that drains


class NodeApi:
    """Answers about this node."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stopping = False
        self.firing: Callable[[], Iterable[Change]] = tuple  # the node's own alerts, when they run

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "rpc_discover": self.discover,
            "rpc_getInfo": self.info,
            "rpc_listErrors": self.errors,
            "rpc_ping": self.ping,
            "node_getStatus": self.status,
            "node_getHealth": self.health,
            "node_stop": self.stop,
            "net_getPeers": self.peers,
            "net_connect": self.connect,
        }

    async def discover(self, _params: NoParams, _caller: Caller) -> dict[str, object]:
        """The contract as an OpenRPC document."""
        return document(METHODS, version=VERSION)

    async def info(self, _params: NoParams, _caller: Caller) -> api.RpcInfo:
        """Versions, network and limits."""
        return api.RpcInfo(
            version=VERSION,
            min_client=CLIENT_MIN,
            protocol_version=PROTOCOL_VERSION,
            chain_id="0x" + self._parts.genesis.chain_id.hex(),
            network=self._parts.genesis.name,
            methods=len(METHODS),
            limits=api.Limits(
                body_bytes=BODY_BYTES_MAX,
                batch_calls=BATCH_CALLS_MAX,
                batch_answer_bytes=BATCH_ANSWER_BYTES_MAX,
                connections=self._parts.config.rpc.max_conns,
                socket_message_bytes=MESSAGE_BYTES_MAX,
                socket_calls=CALLS_MAX,
                socket_subscriptions=SUBSCRIPTIONS_MAX,
            ),
        )

    async def errors(self, _params: NoParams, _caller: Caller) -> api.Errors:
        """Every error this node can answer."""
        return api.Errors(
            items=tuple(
                api.ErrorInfo(
                    reason=entry.reason,
                    code=entry.code,
                    prsm_code=entry.prsm_code,
                    exit_code=int(entry.exit_code),
                    retryable=entry.retryable,
                    title=entry.title,
                    why=entry.why,
                    fix=entry.fix,
                )
                for entry in REGISTRY.values()
            )
        )

    async def ping(self, _params: NoParams, _caller: Caller) -> api.Pong:
        """The node's time."""
        return api.Pong(time=utc_text(self._parts.chain.driver.clock.wall_ms()))

    async def status(self, _params: NoParams, _caller: Caller) -> api.NodeStatus:
        """Everything `prsm status` shows."""
        parts, ledger = self._parts, self._parts.chain.driver.ledger
        wallet, now = parts.chain.wallet, parts.chain.driver.clock.wall_ms()
        return api.NodeStatus(
            name=parts.config.node.name,
            version=VERSION,
            profile=parts.config.node.profile,
            state=self.state(),
            home=str(parts.home.root),
            pid=os.getpid(),
            started=utc_text(parts.started_ms),
            uptime_ms=max(0, now - parts.started_ms),
            network=parts.genesis.name,
            chain_id="0x" + parts.genesis.chain_id.hex(),
            development=parts.genesis.development,
            peer_id=parts.network.peer_id,
            addresses=tuple(parts.network.addresses),
            rpc=parts.rpc(),
            peers=len(parts.network.peers()),
            height=ledger.height,
            head_hash=address_text(ledger.tip.block_hash),
            state_root=address_text(ledger.state_root),
            head_time=utc_text(ledger.tip.time_ms) if ledger.height else None,
            validator=parts.chain.driver.state.instance.own is not None,
            wallet=address_text(wallet.address),
            wallet_unlocked=not wallet.is_locked,
            jobs_running=parts.jobs.running,
            models=len(parts.models.held()),
            offline=parts.models.offline,
            stale=self.is_stale(),
            rss_bytes=rss_bytes(),
            parts=self._list(),
        )

    def state(self) -> State:
        """Where the node is in its life."""
        if self._stopping:
            return "stopping"
        if self._is_alone():
            return "starting"
        return "syncing" if self._parts.chain.sync.is_syncing else "ready"

    def _is_alone(self) -> bool:
        """Told to dial somebody, and none of them has said where it stands yet."""
        parts = self._parts
        age = parts.chain.driver.clock.wall_ms() - parts.started_ms
        waits = bool(parts.config.net.bootstrap) and age < ALONE_MS
        return waits and not parts.chain.sync.has_heard

    def is_stale(self) -> bool:
        """Whether the network may know of more than this node's ledger does."""
        parts = self._parts
        is_lonely = bool(parts.config.net.bootstrap) and not parts.network.peers()
        return parts.models.offline or is_lonely or parts.chain.sync.is_syncing

    def why_not_ready(self) -> str:
        """Empty when the node is ready, else one sentence for `/readyz`."""
        state = self.state()
        if state == "ready":
            return ""
        height = self._parts.chain.driver.ledger.height
        return f"{state}, height {height} of {self._parts.chain.sync.target_height}"

    async def health(self, _params: NoParams, _caller: Caller) -> api.Health:
        """Whether the node is ready."""
        why = self.why_not_ready()
        return api.Health(
            ready=not why,
            why=why,
            state=self.state(),
            height=self._parts.chain.driver.ledger.height,
            peers=len(self._parts.network.peers()),
            alerts=tuple(
                api.FiringAlert(
                    *(one.rule.name, one.rule.severity, utc_text(one.since_ms)),
                    *(one.rule.text, one.rule.runbook),
                )
                for one in self.firing()
            ),
        )

    async def stop(self, _params: NoParams, _caller: Caller) -> api.Stopping:
        """End the node gracefully."""
        self._stopping = True
        self._parts.stop()
        return api.Stopping(pid=os.getpid())

    async def peers(self, _params: NoParams, _caller: Caller) -> api.Peers:
        """Live peers and banned ones, in order of their ids."""
        clock = self._parts.chain.driver.clock
        offset = clock.wall_ms() - clock.monotonic_ms()
        return api.Peers(
            items=tuple(
                api.Peer(
                    peer_id=peer.peer,
                    address=peer.address,
                    direction="out" if peer.outbound else "in",
                    relayed=is_circuit(peer.address),
                    since=utc_text(peer.since_ms + offset),
                    rtt_ms=peer.rtt_ms,
                    agent=peer.agent,
                    schema=peer.schema,
                )
                for peer in self._parts.network.peers()
            ),
            banned=tuple(
                api.BannedPeer(peer_id=ban.peer, until=utc_text(ban.shown_ms), why=ban.why)
                for ban in self._parts.network.bans()
            ),
        )

    async def connect(self, params: api.ConnectParams, _caller: Caller) -> api.Connected:
        """Dial a peer and keep the connection."""
        return api.Connected(peer_id=await self._parts.network.connect(params.address))

    def _list(self) -> tuple[api.Part, ...]:
        chain, network = self._parts.chain, self._parts.network
        stopped = chain.driver.stopped
        return (
            api.Part("network", "running", network.restarts),
            api.Part("consensus", "stopped" if stopped else "running", 0, stopped),
            _kept("admission", chain.keepers),
            _kept("sync", chain.keepers),
            _kept("wallet", chain.keepers, "locked" if chain.wallet.is_locked else ""),
            _working(self._parts),
        )


def _working(parts: Parts) -> api.Part:
    state, restarts, why = parts.models.worker_state()
    return api.Part("worker", state, restarts, parts.holding() or why)


def _kept(name: str, keepers: Mapping[str, Supervisor], why: str = "") -> api.Part:
    keeper = keepers[name]
    return api.Part(name, "running", keeper.restarts, why or keeper.last_error)
