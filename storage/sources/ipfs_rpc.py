"""An IPFS daemon's RPC as a source of blocks, and a place to add files to; through ipfshttpclient.

Knows: ipfshttpclient 0.7.0 and how it fails. Must not know: what the blocks are for. The only
importer of that library; the daemon imports this module only when such a source is configured.
Nothing it returns is trusted: the exchange hashes. Source: docs/spec/storage.md, "IPFS RPC".

`ipfshttpclient.connect` is not used (it refuses every daemon of version 0.8 and later). The
library blocks and cannot be cancelled, so each call runs in a thread of this source's own
limiter and is abandoned on cancellation: a hung daemon cannot eat trio's pool, and a thread
ends with its next block, or when its socket is silent for 5 s.
"""

import io
import ipaddress
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TypeVar
from urllib.parse import urlsplit

import ipfshttpclient
import requests
import trio
from ipfshttpclient import exceptions as foreign
from typing_extensions import Buffer, override

from prsm.protocol.limits import BLOCK_BYTES_MAX, LEAF_BYTES, MIB
from prsm.protocol.messages.models import Have
from prsm.storage.cid import Cid, Codec, parse_cid
from prsm.storage.dag.car import Block, CarWriter
from prsm.storage.dag.unixfs import UNIXFS_V1_2025, Importer
from prsm.storage.errors import (
    BadCid,
    NotFound,
    SourceBroken,
    SourceCorrupt,
    SourceDown,
    SourceFailed,
    SourceSlow,
)
from prsm.storage.interfaces import TIER_DAEMON, Leaf, Traits
from prsm.storage.sources.urls import checked_url
from prsm.storage.wholefile import regular_size

_T = TypeVar("_T")
SOCKET_SECONDS: Final = 5  # per read of a socket, not in total: that is the caller's deadline
CALLS_MAX: Final = 4
# `add` has no keyword for the width of a node; above the old default of 174 leaves the daemon's
# root may differ from ours, so larger files are imported as a DAG that is built here.
ADD_LEAVES_MAX: Final = 174
_TRAITS: Final = Traits(tier=TIER_DAEMON, asks_max=2, run_leaves=8)
_TESTED: Final = ("0.18.1",)  # js-ipfs; answered by tests/interop
_ABSENT: Final = ("not found", "could not find", "no link named")


@dataclass(frozen=True, slots=True)
class IpfsDaemon:
    """Who answered, and what people should know about it."""

    version: str
    peer_id: str
    warnings: tuple[str, ...]


class IpfsRpc:
    """One configured IPFS daemon."""

    def __init__(self, url: str) -> None:
        """Name the daemon; nothing is sent yet.

        Args:
            url: such as `http://127.0.0.1:5001`; credentials in it are refused.

        Raises:
            LocalError: no such URL.
        """
        # The library passes urllib3 a parameter that it has outlived; nothing a user can mend.
        warnings.filterwarnings("ignore", message="The 'strict' parameter", category=FutureWarning)
        self._address, self._is_loopback = _address(url)
        self._url = url.rstrip("/")
        self._limiter = trio.CapacityLimiter(CALLS_MAX)
        self._clients = threading.local()

    @property
    def name(self) -> str:
        """The daemon's URL."""
        return self._url

    async def check(self) -> IpfsDaemon:
        """Ask who is there.

        Raises:
            SourceDown, SourceSlow, SourceBroken, SourceFailed: it does not answer as a daemon.
        """

        def ask(client: ipfshttpclient.Client) -> tuple[str, str]:
            return str(client.version()["Version"]), str(client.id()["ID"])

        version, peer_id = await self._call(ask)
        notes = []
        if version not in _TESTED:
            notes.append(f"{self._url} is version {version}, tested are {', '.join(_TESTED)}")
        if not self._is_loopback:
            notes.append(f"{self._url} is not on this machine, and its RPC is admin power")
        return IpfsDaemon(version, peer_id, tuple(notes))

    @property
    def traits(self) -> Traits:
        """Asked when peers give little, two runs at once: four threads serve it."""
        return _TRAITS

    async def have(self, root: Cid) -> Have | None:
        """Return None: a daemon may find what it does not hold, and never says that it cannot."""
        del root
        await trio.lowlevel.checkpoint()
        return None

    async def node(self, digest: bytes) -> bytes:
        """Return a block; daemons find blocks by hash, whatever the codec."""
        return (await self._blocks((Cid(Codec.DAG_PB, digest),)))[0]

    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        """Return the blocks of successive leaves, each asked by its own CID."""
        del root
        return await self._blocks([Cid(Codec.RAW, leaf.digest) for leaf in wanted])

    async def add_file(self, path: Path, *, root: Cid) -> None:
        """Give a file to the daemon, unpinned, under the CID it has here.

        Args:
            path: the file.
            root: its CID in our store, which the daemon must arrive at too.

        Raises:
            NotFound, LocalError: no regular file.
            SourceCorrupt: the daemon stored something else, or says so.
            SourceDown, SourceSlow, SourceBroken, SourceFailed: it did not take it.
        """
        size = await trio.to_thread.run_sync(regular_size, path, limiter=self._limiter)
        stop = threading.Event()

        def add(client: ipfshttpclient.Client) -> str:
            if size <= ADD_LEAVES_MAX * LEAF_BYTES:
                added = client.add(
                    path,
                    cid_version=1,
                    raw_leaves=True,
                    chunker=f"size-{LEAF_BYTES}",
                    pin=False,
                )
                return str(added["Hash"])
            # Of roots it did not pin a daemon says nothing, which the library asserts against;
            # so it is asked for the root itself.
            with suppress(AssertionError):
                client.dag.imprt(_CarOfFile(path, root, stop), opts={"pin-roots": "false"})
            return str(client.block.stat(str(root))["Key"])

        try:
            text = await self._call(add)
        finally:
            stop.set()
        try:
            made = parse_cid(text)
        except BadCid as error:
            raise SourceBroken(f"{self._url} named the file {text[:80]!r}") from error
        if made != root:
            raise SourceCorrupt(f"{path.name} is {root}, {self._url} made {made} of it")

    async def _blocks(self, cids: Sequence[Cid]) -> Sequence[bytes]:
        stop = threading.Event()

        def ask(client: ipfshttpclient.Client) -> list[bytes]:
            blocks: list[bytes] = []
            for cid in cids:
                if stop.is_set():
                    break
                # What came before a failure is a prefix, and worth having.
                try:
                    with client.block.get(str(cid), stream=True) as parts:
                        blocks.append(_capped(parts))
                except Exception:
                    if not blocks:
                        raise
                    break
            return blocks

        try:
            return await self._call(ask)
        finally:
            stop.set()

    async def _call(self, call: Callable[[ipfshttpclient.Client], _T]) -> _T:
        return await trio.to_thread.run_sync(
            self._in_thread, call, abandon_on_cancel=True, limiter=self._limiter
        )

    def _in_thread(self, call: Callable[[ipfshttpclient.Client], _T]) -> _T:
        try:
            return call(self._client())
        except (foreign.Error, requests.exceptions.RequestException) as error:
            self._refuse(error)
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise SourceBroken(f"{self._url}: an answer of another form: {error!r}") from error

    def _client(self) -> ipfshttpclient.Client:
        """Return this thread's own client: they share no connection."""
        client = getattr(self._clients, "client", None)
        if client is None:
            client = ipfshttpclient.Client(self._address, timeout=SOCKET_SECONDS, chunk_size=MIB)
            self._clients.client = client
        return client

    def _refuse(self, error: Exception) -> NoReturn:
        """Raise what a foreign error means; two families come out of the library."""
        text = f"{self._url}: {str(error)[:200] or type(error).__name__}"
        match error:
            case foreign.TimeoutError() | requests.exceptions.Timeout():
                raise SourceSlow(text) from error
            case foreign.ConnectionError():
                raise SourceDown(
                    text, hint="start the IPFS daemon, or take it out of the config"
                ) from error
            case foreign.PartialErrorResponse() | foreign.ProtocolError() | foreign.DecodingError():
                raise SourceBroken(text) from error
            case foreign.ErrorResponse() | foreign.StatusError():
                if any(word in text.lower() for word in _ABSENT):
                    raise NotFound(text) from error
                raise SourceFailed(text) from error
            case _:
                raise SourceBroken(text) from error


def _capped(parts: Iterable[bytes]) -> bytes:
    block = bytearray()
    for part in parts:
        block += part
        if len(block) > BLOCK_BYTES_MAX:
            raise ValueError(f"a block of more than {BLOCK_BYTES_MAX} bytes")
    return bytes(block)


class _CarOfFile(io.RawIOBase):
    """A file as a CAR of our own DAG, made while it is uploaded; the library takes no generator.

    Args:
        path: the file.
        root: its CID; another one is an error before the end.
        stop: set when nobody waits for it any more.
    """

    def __init__(self, path: Path, root: Cid, stop: threading.Event) -> None:
        self._waiting = bytearray()
        self._parts = self._write(path, root, stop)

    @override
    def read(self, size: int = -1) -> bytes:
        """Return at most so many bytes; empty at the end."""
        while not self._waiting and next(self._parts, None) is not None:
            pass
        taken = bytes(self._waiting if size < 0 else self._waiting[:size])
        del self._waiting[: len(taken)]
        return taken

    def _write(self, path: Path, root: Cid, stop: threading.Event) -> Iterator[Cid]:
        """Write the header, each leaf as it is read, then the nodes; yields after each."""
        nodes: list[Block] = []
        importer = Importer(UNIXFS_V1_2025, lambda cid, raw: nodes.append((cid, raw)))
        car = CarWriter(_Sink(self._waiting), root)
        with path.open("rb") as file:
            while chunk := file.read(LEAF_BYTES):
                if stop.is_set():
                    raise ValueError("given up")
                cid = importer.add(chunk)
                car.add(cid, chunk)
                yield cid
        if (made := importer.finish().root) != root:
            raise ValueError(f"{path.name} is {made} now, not {root}")
        for cid, node in nodes:
            car.add(cid, node)
            yield cid


class _Sink(io.BytesIO):
    """Takes what is written into a buffer of somebody else."""

    def __init__(self, buffer: bytearray) -> None:
        super().__init__()
        self._buffer = buffer

    @override
    def write(self, data: Buffer) -> int:
        """Append."""
        self._buffer += data
        return len(memoryview(data))


def _address(url: str) -> tuple[str, bool]:
    """Return the multiaddress of a URL, and whether it is on this machine."""
    parts = urlsplit(checked_url(url))
    host, port = parts.hostname or "", parts.port or 5001
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return f"/dns/{host}/tcp/{port}/{parts.scheme}", host == "localhost"
    return f"/ip{ip.version}/{host}/tcp/{port}/{parts.scheme}", ip.is_loopback
