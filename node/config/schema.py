"""The keys of config.toml: types, defaults, bounds, dangers.

Knows: sections and keys. Must not know: bad combinations (checks), files, the environment (load),
what rooms do with them.
"""

import re
from typing import Annotated, Final, Literal

import msgspec

from prsm.node.config.alerts import AlertsConfig
from prsm.node.config.login import LoginConfig
from prsm.node.config.section import ConfigError, Section, doc
from prsm.protocol.ids import Amount
from prsm.protocol.limits import (
    ADDRESS_TEXT_MAX,
    COPIES_MAX,
    INT_MAX,
    NAME_BYTES_MAX,
    PEER_TEXT_MAX,
    PEERS_MAX,
)

_UNITS: Final = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}

_Address = Annotated[str, msgspec.Meta(min_length=1, max_length=ADDRESS_TEXT_MAX)]
_Addresses = Annotated[tuple[_Address, ...], msgspec.Meta(max_length=64)]
_Peers = Annotated[
    tuple[Annotated[str, msgspec.Meta(max_length=PEER_TEXT_MAX)], ...], msgspec.Meta(max_length=256)
]
_Folders = Annotated[
    tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=4096)], ...],
    msgspec.Meta(max_length=8),
]

_Size = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,12}(B|KiB|MiB|GiB|TiB)?$")]
_Micro = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,18})$")]


class NodeConfig(Section, frozen=True):
    """[node]: what this node is called and what it is for."""

    name: Annotated[
        str,
        msgspec.Meta(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_BYTES_MAX - 1}}}$"),
        doc("shown to people in status and logs; peers know the peer id"),
    ] = "node"
    profile: Annotated[
        Literal["dev", "lab", "validator", "light"],
        doc("a named set of defaults: validator votes, light runs no models"),
    ] = "lab"


class NetConfig(Section, frozen=True):
    """[net]: addresses of the peer-to-peer side, as multiaddresses."""

    listen: Annotated[
        _Addresses,
        doc(
            "where peers may dial us; port 0 takes a free one; "
            "danger: beyond loopback strangers may dial, see net.psk_file and net.trusted"
        ),
    ] = ("/ip4/127.0.0.1/tcp/4410",)
    announce: Annotated[
        _Addresses, doc("where we are told to be dialled, without /p2p/; net.listen if empty")
    ] = ()
    bootstrap: Annotated[
        _Addresses,
        doc("peers dialled at start, with /p2p/, by /ip4, /ip6, /dns4 or /dns6; nobody if empty"),
    ] = ()
    outbound: Annotated[
        int,
        msgspec.Meta(ge=0, le=32),
        doc("links chosen from what peers tell; 0 dials net.bootstrap only and asks nobody"),
    ] = 8
    max_peers: Annotated[
        int, msgspec.Meta(ge=1, le=PEERS_MAX), doc("links at once, both ways; more are refused")
    ] = PEERS_MAX
    memory: Annotated[
        _Size, doc("of the daemon; beyond it the peers that make it keep most are dropped")
    ] = "1GiB"
    mdns: Annotated[
        bool, doc("announce us in the local network and take hints from it; anybody there sees it")
    ] = False
    dht: Annotated[
        bool, doc("not supported: linked peers are asked who holds a model, see docs/adr/0009")
    ] = False
    trusted: Annotated[
        _Peers, doc("peer ids that alone may connect and are dialled; everybody if empty")
    ] = ()
    psk_file: Annotated[
        str,
        msgspec.Meta(max_length=4096),
        doc("file (0600) with the key of a private network, all nodes the same; none if empty"),
    ] = ""
    relay: Annotated[
        bool, doc("carry bytes for peers nobody can dial, within fixed bounds; costs bandwidth")
    ] = False
    via: Annotated[_Addresses, doc("relays where this node always keeps a place, with /p2p/")] = ()
    region: Annotated[
        str,
        msgspec.Meta(pattern=rf"^[A-Za-z0-9._-]{{0,{NAME_BYTES_MAX}}}$"),
        doc("label shown to peers in the topology, such as eu-west"),
    ] = ""
    upload: Annotated[
        _Size,
        doc("bytes a second sent for models and tensors; consensus is not held back; 0: any"),
    ] = "0"
    download: Annotated[_Size, doc("the same, received")] = "0"

    @property
    def memory_bytes(self) -> int:
        """The memory bound as a number."""
        return parse_size(self.memory)

    @property
    def limits(self) -> tuple[int, int]:
        """Upload and download in bytes a second; 0: no limit."""
        return parse_size(self.upload), parse_size(self.download)


class RpcConfig(Section, frozen=True):
    """[rpc]: where clients ask. Beyond this machine only with TLS and tokens."""

    listen: Annotated[
        str,
        msgspec.Meta(pattern=r"^[^\s/]{1,64}:[0-9]{1,5}$"),
        doc("host:port of JSON-RPC over HTTP; port 0 takes a free one"),
    ] = "127.0.0.1:8480"
    unix: Annotated[bool, doc("also answer on run/prsm.sock")] = True
    max_conns: Annotated[
        int,
        msgspec.Meta(ge=8, le=65_536),
        doc("connections at once, WebSockets too; more get 503 or are closed"),
    ] = 512
    jwt: Annotated[
        bool, doc("let tokens of `prsm token new` in; else the cookie of this run alone")
    ] = True
    tls_cert: Annotated[
        str, msgspec.Meta(max_length=4096), doc("PEM certificate of the HTTP side; empty: no TLS")
    ] = ""
    tls_key: Annotated[
        str, msgspec.Meta(max_length=4096), doc("its PEM key, mode 0600, without a password")
    ] = ""
    hosts: Annotated[
        _Addresses, doc("names others call this node by, such as node.example:8480")
    ] = ()
    allow_from: Annotated[
        _Addresses, doc("networks that may connect, such as 10.0.0.0/8; everybody if empty")
    ] = ()

    @property
    def host(self) -> str:
        """The address part of `listen`, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port part of `listen`."""
        return int(self.listen.rpartition(":")[2])


class ConsensusConfig(Section, frozen=True):
    """[consensus]: whether this node votes."""

    validator: Annotated[
        bool,
        doc("vote with keys/consensus.key; two nodes with one such key lose its stake"),
    ] = False


class ChainConfig(Section, frozen=True):
    """[chain]: how much of the ledger's past this node keeps, and how others catch up from it."""

    snapshot_every: Annotated[
        int,
        msgspec.Meta(ge=0, le=INT_MAX),
        doc("heights between two snapshots of the state for peers far behind; 0 makes none"),
    ] = 1_000
    prune: Annotated[
        bool,
        doc("forget blocks below the oldest snapshot once unbonding_ms is over; no way back"),
    ] = False


class StorageConfig(Section, frozen=True):
    """[storage]: how much is kept, and which IPFS daemons may be asked."""

    quota: Annotated[_Size, doc("bytes for blocks; the ledger is not counted")] = "50GiB"
    ipfs_rpc: Annotated[
        _Addresses, doc("URLs of own IPFS daemons, such as http://127.0.0.1:5001; nobody if empty")
    ] = ()
    gateways: Annotated[
        _Addresses, doc("URLs of trustless gateways, asked last; nobody if empty")
    ] = ()
    bitswap: Annotated[
        bool, doc("open a second port for IPFS peers: blocks only, identity and rules of its own")
    ] = False
    bitswap_listen: Annotated[
        _Addresses,
        doc("where IPFS peers may dial us; danger: beyond loopback anybody may ask for blocks"),
    ] = ("/ip4/127.0.0.1/tcp/4411",)
    ipfs_peers: Annotated[
        _Addresses, doc("IPFS peers dialled at start and again, with /p2p/; nobody if empty")
    ] = ()
    offline: Annotated[
        bool, doc("ask nobody for blocks: only what is here opens; agreement goes on")
    ] = False
    upload: Annotated[
        _Size, doc("bytes a second of blocks sent to all peers together; 0: as net.upload allows")
    ] = "0"
    download: Annotated[_Size, doc("the same, received")] = "0"
    peer_upload: Annotated[_Size, doc("bytes a second of blocks sent to each peer; 0: any")] = "0"
    peer_download: Annotated[_Size, doc("the same, received")] = "0"
    copies: Annotated[
        int,
        msgspec.Meta(ge=1, le=COPIES_MAX),
        doc("copies there should be of each model that the ledger names; more by pin"),
    ] = 3
    keep_for_others: Annotated[
        _Size, doc("bytes of copies kept for others within the quota; 0 keeps none")
    ] = "10GiB"
    extra_stores: Annotated[
        _Folders,
        doc("blocks/ folders of other nodes or a shared disk, read-only, searched first"),
    ] = ()

    @property
    def quota_bytes(self) -> int:
        """The quota as a number."""
        return parse_size(self.quota)

    @property
    def limits(self) -> tuple[int, int, int, int]:
        """Upload, download, the same of each peer, in bytes a second; 0: no limit."""
        together = parse_size(self.upload), parse_size(self.download)
        return *together, parse_size(self.peer_upload), parse_size(self.peer_download)

    @property
    def keep_bytes(self) -> int:
        """Bytes of copies for others, as a number."""
        return parse_size(self.keep_for_others)


class ExecutorConfig(Section, frozen=True):
    """[executor]: models run for ourselves and for peers."""

    enabled: Annotated[bool, doc("run shards in child processes")] = True
    memory: Annotated[_Size, doc("address space of one child; more than that ends it")] = "4GiB"
    sandbox: Annotated[
        Literal["auto", "strict", "degraded"],
        doc(
            "auto: every layer the kernel has, a warning where it lacks one; strict: then no work "
            "for strangers; degraded: no warning either"
        ),
    ] = "auto"
    provider: Annotated[
        Literal["cpu", "cuda"],
        doc("who computes; cuda needs a runtime built for it, and leaves sessions unsealed"),
    ] = "cpu"
    join_rows: Annotated[
        bool, doc("rows of several requesters may run together where golden rows show no change")
    ] = False

    @property
    def memory_bytes(self) -> int:
        """The memory bound as a number."""
        return parse_size(self.memory)

    @property
    def worker_words(self) -> tuple[str, ...]:
        """What the worker program is told beside its descriptor."""
        return () if self.provider == "cpu" else (f"--provider={self.provider}",)


class WorkerConfig(Section, frozen=True):
    """[worker]: what peers pay."""

    price: Annotated[_Micro, doc("micro-FTNS asked for one work unit")] = "0"
    bond: Annotated[
        _Micro, doc("micro-FTNS kept pledged: paid work is given to this node alone only then")
    ] = "0"
    drain_s: Annotated[
        int,
        msgspec.Meta(ge=0, le=3600),
        doc(
            "a node that stops finishes what it holds for others for so long; a service manager "
            "must wait longer"
        ),
    ] = 10

    @property
    def price_microftns(self) -> Amount:
        """The price as a number."""
        return Amount(int(self.price))

    @property
    def bond_microftns(self) -> Amount:
        """The bond as a number."""
        return Amount(int(self.bond))


class JobsConfig(Section, frozen=True):
    """[jobs]: how work for ourselves is checked where one worker does it alone."""

    check_percent: Annotated[
        int,
        msgspec.Meta(ge=0, le=100),
        doc("of such jobs: a batch is run again here, or one with a known answer is sent along"),
    ] = 5


class KeysConfig(Section, frozen=True):
    """[keys]: how the encrypted keys are opened without a person."""

    password_file: Annotated[
        str,
        msgspec.Meta(max_length=4096),
        doc("file (0600) with the password, of the node's folder unless absolute; empty: locked"),
    ] = ""


class AuditConfig(Section, frozen=True):
    """[audit]: the log of calls that administer this node or sign for it."""

    anchor_every_s: Annotated[
        int,
        msgspec.Meta(ge=0, le=31_536_000),
        doc("oldest line that is not vouched for by the ledger; 0: anchored by hand only"),
    ] = 86_400


class LogConfig(Section, frozen=True):
    """[log]: what is written, and how."""

    level: Annotated[Literal["debug", "info", "warning", "error"], doc("least level")] = "info"
    format: Annotated[
        Literal["auto", "human", "json"], doc("auto: human on a terminal, else JSON")
    ] = "auto"
    rotate: Annotated[_Size, doc("bytes of one file under logs/; 0: it grows without bound")] = (
        "50MiB"
    )
    keep: Annotated[
        int, msgspec.Meta(ge=0, le=1000), doc("files of earlier lines that are kept")
    ] = 5

    @property
    def rotate_bytes(self) -> int:
        """The size of one file as a number."""
        return parse_size(self.rotate)


class MetricsConfig(Section, frozen=True):
    """[metrics]: what others may read of this node's numbers, and where its traces go."""

    prometheus: Annotated[bool, doc("answer GET /metrics; open to programs of this machine")] = True
    otlp: Annotated[
        str,
        msgspec.Meta(max_length=512),
        doc("URL of an OpenTelemetry collector (OTLP over HTTP) for traces of jobs; empty: none"),
    ] = ""


class Config(Section, frozen=True):
    """Everything a node may be told; read-only after start."""

    node: NodeConfig = NodeConfig()
    net: NetConfig = NetConfig()
    rpc: RpcConfig = RpcConfig()
    consensus: ConsensusConfig = ConsensusConfig()
    chain: ChainConfig = ChainConfig()
    storage: StorageConfig = StorageConfig()
    executor: ExecutorConfig = ExecutorConfig()
    worker: WorkerConfig = WorkerConfig()
    jobs: JobsConfig = JobsConfig()
    keys: KeysConfig = KeysConfig()
    audit: AuditConfig = AuditConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()
    alerts: AlertsConfig = AlertsConfig()
    login: LoginConfig = LoginConfig()


def parse_size(text: str) -> int:
    """Read `4GiB` or `1000` as bytes.

    Raises:
        ConfigError: no such number or unit.
    """
    match = re.fullmatch(r"([0-9]{1,12})([A-Za-z]*)", text)
    unit = _UNITS.get(match[2]) if match else None
    size = int(match[1]) * unit if match and unit else -1
    if not 0 <= size <= INT_MAX:
        raise ConfigError(f"{text[:40]!r} is no size", hint="write a number and B, KiB, MiB or GiB")
    return size
