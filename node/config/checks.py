"""Combinations of keys that cannot work, or would harm their owner.

Knows: which keys contradict each other, and what to write instead. Must not know: files, rooms.
"""

import ipaddress
from typing import Final

from prsm.node.config.login import validate_login
from prsm.node.config.schema import Config, NetConfig, RpcConfig, StorageConfig
from prsm.node.config.section import ConfigError
from prsm.protocol.errors import LocalError, Unsupported
from prsm.protocol.identity import parse_listen, peer_in, public_key_of

LIMIT_BYTES_MIN: Final = 128 * 2**10  # a second: below it a stream looks dead to the other side


def validate(config: Config) -> None:
    """Refuse combinations that cannot work or would harm their owner.

    Raises:
        ConfigError: names the keys and what to change.
    """
    _validate_rpc(config.rpc)
    validate_login(config.login)
    if config.node.profile == "light" and config.consensus.validator:
        raise ConfigError(
            "node.profile is 'light' and consensus.validator is true",
            hint='set node.profile = "validator", or consensus.validator = false',
        )
    if config.chain.prune and not config.chain.snapshot_every:
        raise ConfigError(
            "chain.prune is true and chain.snapshot_every is 0: nothing would ever be old",
            hint="set chain.snapshot_every = 1000, or chain.prune = false",
        )
    _validate_sources(config.storage)
    for folder in config.storage.extra_stores:
        if not folder.startswith("/"):
            raise ConfigError(
                f"storage.extra_stores has {folder!r}, which is no absolute path",
                hint='write it as "/srv/prsm/blocks"',
            )
    if config.alerts.notify and not config.alerts.notify[0].startswith("/"):
        raise ConfigError(
            f"alerts.notify begins with {config.alerts.notify[0]!r}, which is no absolute path",
            hint="prsm config set alerts.notify /usr/local/bin/page,--urgent; no shell is started",
        )
    _check_limits(config.net, config.storage)
    _validate_net(config.net)


def _validate_rpc(rpc: RpcConfig) -> None:
    has_tls = bool(rpc.tls_cert) and bool(rpc.tls_key)
    if not is_loopback(rpc.host) and not (has_tls and rpc.jwt):
        raise ConfigError(
            f"rpc.listen is {rpc.listen!r}, not a loopback address, without TLS and tokens",
            hint='set rpc.listen = "127.0.0.1:8480" and reach it from afar through ssh -L; or set '
            "rpc.tls_cert, rpc.tls_key and rpc.jwt = true",
        )
    if rpc.port > 65535:
        raise ConfigError(
            f"rpc.listen has port {rpc.port}, at most 65535",
            hint='set rpc.listen = "127.0.0.1:8480"',
        )
    if bool(rpc.tls_cert) != bool(rpc.tls_key):
        raise ConfigError(
            "one of rpc.tls_cert and rpc.tls_key is empty",
            hint="set both, or neither: prsm config edit",
        )
    if rpc.host in {"0.0.0.0", "::"} and not rpc.hosts:  # noqa: S104 - a name for it is asked for
        raise ConfigError(
            f"rpc.listen is {rpc.listen!r} and rpc.hosts is empty: no Host would mean this node",
            hint='set rpc.hosts = ["node.example:8480"]',
        )
    for network in rpc.allow_from:
        _refuse_no_network(network)


def _refuse_no_network(text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(
            f"rpc.allow_from has {text!r}, which is no network: {error}",
            hint='write it as "10.0.0.0/8" or "192.0.2.7"',
        ) from error


def _validate_sources(storage: StorageConfig) -> None:
    for address in (*storage.bitswap_listen, *storage.ipfs_peers):
        if not address.startswith("/"):
            raise ConfigError(
                f"storage has the address {address!r}, which is no multiaddress",
                hint="write it as /ip4/127.0.0.1/tcp/4411",
            )
    for address in storage.ipfs_peers:
        if "/p2p/" not in address:
            raise ConfigError(
                f"storage.ipfs_peers has {address!r} without the peer's id",
                hint="write it as /ip4/127.0.0.1/tcp/4001/p2p/PEER (`ipfs id` there shows it)",
            )
    if storage.ipfs_peers and not storage.bitswap:
        raise ConfigError(
            "storage.ipfs_peers has peers and storage.bitswap is false: nobody would dial them",
            hint="set storage.bitswap = true, or storage.ipfs_peers = []",
        )
    for url in (*storage.ipfs_rpc, *storage.gateways):
        if not url.startswith(("http://", "https://")):
            # It is not repeated: it may hold a password.
            raise ConfigError(
                "storage.ipfs_rpc or storage.gateways has something that is no URL",
                hint="write it as http://127.0.0.1:5001",
            )


def _validate_net(net: NetConfig) -> None:
    for address in (*net.listen, *net.bootstrap, *net.via):
        if not address.startswith("/"):
            raise ConfigError(
                f"net has the address {address!r}, which is no multiaddress",
                hint="write it as /ip4/127.0.0.1/tcp/4410",
            )
    for address in (*net.bootstrap, *net.via):
        if "/p2p/" not in address:
            raise ConfigError(
                f"net.bootstrap or net.via has {address!r} without the peer's id",
                hint="write it as /ip4/127.0.0.1/tcp/4410/p2p/PEER (`prsm status` there shows it)",
            )
    for address in (*net.bootstrap, *net.via):
        _refuse_no_peer(address)
    _validate_links(net)


def _validate_links(net: NetConfig) -> None:
    for address in net.announce:
        _refuse_announce(address)
    if net.outbound > net.max_peers:
        raise ConfigError(
            f"net.outbound is {net.outbound} and net.max_peers {net.max_peers}",
            hint=f"set net.max_peers = {net.outbound} or more",
        )
    if net.dht:
        raise Unsupported(
            "net.dht is true: kad-dht of libp2p 0.8.1 dials whatever a stranger names",
            hint="set net.dht = false; linked peers are asked who holds a model",
        )
    if net.mdns and not net.outbound:
        raise ConfigError(
            "net.mdns is true and net.outbound is 0: nobody found would ever be dialled",
            hint="set net.outbound = 8, or net.mdns = false",
        )
    for peer in net.trusted:
        _refuse_peer(peer)
    strangers = [at for at in net.bootstrap if net.trusted and not at.endswith(net.trusted)]
    if strangers:
        raise ConfigError(
            f"net.bootstrap has {strangers[0]!r}, whose peer is not in net.trusted",
            hint="add its peer id to net.trusted, or take it out of net.bootstrap",
        )


def _check_limits(net: NetConfig, storage: StorageConfig) -> None:
    keys = ("net.upload", "net.download", "storage.upload", "storage.download")
    each = ("storage.peer_upload", "storage.peer_download")
    for key, limit in zip((*keys, *each), (*net.limits, *storage.limits), strict=True):
        if 0 < limit < LIMIT_BYTES_MIN:
            raise ConfigError(
                f"{key} is {limit} bytes a second, at least {LIMIT_BYTES_MIN}",
                hint=f'set {key} = "1MiB", or "0" for no limit',
            )


def _refuse_no_peer(address: str) -> None:
    try:
        peer_in(address)
    except LocalError as error:
        raise ConfigError(
            f"net.bootstrap or net.via: {error.what}", hint=error.hint or "copy the whole address"
        ) from error


def _refuse_announce(address: str) -> None:
    try:
        ip, port = parse_listen(address)
    except LocalError as error:
        raise ConfigError(f"net.announce: {error.what}", hint=error.hint) from error
    if not port or ipaddress.ip_address(ip).is_unspecified:
        raise ConfigError(
            f"net.announce has {address!r}, where nobody can be dialled",
            hint="write the address and port others reach, such as /ip4/203.0.113.7/tcp/4410",
        )


def _refuse_peer(peer: str) -> None:
    try:
        public_key_of(peer)
    except LocalError as error:
        raise ConfigError(f"net.trusted: {error.what}", hint=error.hint) from error


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
