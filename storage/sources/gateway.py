"""Trustless HTTP gateways as sources of blocks: one raw block a request, nothing believed.

Knows httpx2 and the answers of gateways. Must not know what the blocks are for. The only importer
of that library; the daemon imports this module only when a gateway is configured. Source:
https://specs.ipfs.tech/http-gateways/trustless-gateway/, docs/spec/storage.md, "Gateways".

js-ipfs answered 200 with the whole file where a raw block was asked for: status, type, length and
hash are all checked, and the first wrong type makes a gateway unfit (`health`).
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NoReturn
from urllib.parse import urljoin, urlsplit

import httpx2
import trio

from prsm.protocol.limits import BLOCK_BYTES_MAX
from prsm.protocol.messages.models import Have
from prsm.storage.cid import Cid, Codec
from prsm.storage.errors import (
    NotFound,
    SourceBroken,
    SourceCorrupt,
    SourceDown,
    SourceFailed,
    SourceSlow,
    SourceUnfit,
)
from prsm.storage.interfaces import TIER_GATEWAY, Leaf, Traits
from prsm.storage.sources.urls import checked_url

RAW_TYPE: Final = "application/vnd.ipld.raw"
SOCKET_S: Final = 5.0  # to connect, and of each read; in total the caller's deadline counts
REDIRECTS_MAX: Final = 3
REQUESTS_MAX: Final = 4  # of one gateway at once
RETRY_AFTER_S_MAX: Final = 60
_HEADERS: Final = {"Accept": RAW_TYPE, "Accept-Encoding": "identity"}
_ABSENT: Final = (404, 410)
_LATE: Final = (408, 429, 503, 504)
_MOVED: Final = (301, 302, 303, 307, 308)
_TRAITS: Final = Traits(tier=TIER_GATEWAY, asks_max=2, run_leaves=8)


class Gateway:
    """One configured gateway.

    Args:
        url: such as `http://127.0.0.1:8080`; credentials in it are refused.
        http: shared by all gateways.
        hosts: `host:port` of those it may redirect to, besides itself.

    Raises:
        LocalError: no such URL.
    """

    def __init__(self, url: str, http: httpx2.AsyncClient, *, hosts: Iterable[str] = ()) -> None:
        self._url = checked_url(url)
        self._http = http
        self._hosts = frozenset((*hosts, urlsplit(self._url).netloc))
        self._turn = trio.Semaphore(REQUESTS_MAX)

    @property
    def name(self) -> str:
        """The gateway's URL."""
        return self._url

    @property
    def traits(self) -> Traits:
        """The last to be asked, a run at a time."""
        return _TRAITS

    async def have(self, root: Cid) -> Have | None:
        """Return None: a gateway may find what it does not hold, and never says that it cannot."""
        del root
        await trio.lowlevel.checkpoint()
        return None

    async def node(self, digest: bytes) -> bytes:
        """Return an interior node.

        Raises:
            NotFound: the gateway says that there is none.
            SourceUnfit: it answers in another form.
            SourceCorrupt: it sent other bytes.
            SourceDown, SourceSlow, SourceBroken, SourceFailed: it did not answer.
        """
        return await self._block(Cid(Codec.DAG_PB, digest))

    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        """Return the blocks of successive leaves, in that order; a shorter answer is a prefix.

        Raises:
            NotFound, SourceUnfit, SourceCorrupt, SourceDown, SourceSlow, SourceBroken,
                SourceFailed: as `node`, of the first.
        """
        del root
        found: list[bytes | NotFound | SourceFailed | SourceCorrupt] = [b""] * len(wanted)

        async def take(at: int, leaf: Leaf) -> None:
            try:
                found[at] = await self._block(Cid(Codec.RAW, leaf.digest))
            except (NotFound, SourceFailed, SourceCorrupt) as error:
                found[at] = error

        async with trio.open_nursery() as nursery:
            for at, leaf in enumerate(wanted):
                nursery.start_soon(take, at, leaf)
        blocks: list[bytes] = []
        for each in found:
            if isinstance(each, bytes):
                blocks.append(each)
                continue
            # What came before a failure is worth having; wrong bytes and forms are told at once.
            if not blocks or isinstance(each, SourceCorrupt | SourceUnfit):
                raise each
            break
        return blocks

    async def _block(self, cid: Cid) -> bytes:
        async with self._turn:
            try:
                block = await self._get(f"{self._url}/ipfs/{cid}?format=raw", cid)
            except httpx2.TimeoutException as error:
                raise SourceSlow(f"{self._url}: silent for {SOCKET_S:g} s") from error
            except httpx2.ConnectError as error:
                raise SourceDown(f"{self._url}: nobody answers") from error
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise SourceBroken(f"{self._url}: {type(error).__name__}") from error
        if (got := hashlib.sha256(block).digest()) != cid.digest:
            what = f"{len(block)} bytes of {got.hex()} instead of {cid}"
            raise SourceCorrupt(what, peer=self._url, penalty=0)
        return block

    async def _get(self, url: str, cid: Cid) -> bytes:
        for _ in range(REDIRECTS_MAX + 1):
            async with self._http.stream("GET", url, headers=_HEADERS) as answer:
                if answer.status_code not in _MOVED:
                    return await self._read(answer, cid)
                url = urljoin(url, answer.headers.get("Location", ""))
            if urlsplit(url).netloc not in self._hosts:
                raise SourceFailed(f"{self._url}: redirects to a host that is not configured")
        raise SourceFailed(f"{self._url}: more than {REDIRECTS_MAX} redirects")

    async def _read(self, answer: httpx2.Response, cid: Cid) -> bytes:
        self._check_status(answer, cid)
        kind = answer.headers.get("Content-Type", "")
        encoding = answer.headers.get("Content-Encoding", "identity")
        if kind != RAW_TYPE or encoding != "identity":
            raise SourceUnfit(
                f"{self._url}: answers {kind[:80]!r} ({encoding[:20]}), asked for {RAW_TYPE}",
                hint="it is no trustless gateway: take it out of storage.gateways",
            )
        announced = answer.headers.get("Content-Length", "0")
        is_long = not announced.isdecimal() or int(announced) > BLOCK_BYTES_MAX
        return await self._body(answer) if not is_long else self._too_long()

    async def _body(self, answer: httpx2.Response) -> bytes:
        block = bytearray()
        try:
            async for part in answer.aiter_raw():
                block += part
                if len(block) > BLOCK_BYTES_MAX:
                    # Ends the next read; leaving the loop would leave httpx2's generators open.
                    await answer.aclose()
        except httpx2.HTTPError:
            if len(block) <= BLOCK_BYTES_MAX:
                raise
        return bytes(block) if len(block) <= BLOCK_BYTES_MAX else self._too_long()

    def _too_long(self) -> NoReturn:
        raise SourceBroken(f"{self._url}: a block of over {BLOCK_BYTES_MAX} bytes")

    def _check_status(self, answer: httpx2.Response, cid: Cid) -> None:
        status = answer.status_code
        if status == 200:
            return
        if status in _ABSENT:
            raise NotFound(f"{self._url} does not find {cid}")
        if status in _LATE:
            after = answer.headers.get("Retry-After", "")
            after_s = min(int(after), RETRY_AFTER_S_MAX) if after.isdecimal() else 0
            text = f"{self._url}: status {status}"
            raise SourceSlow(text, retry_after_ms=1000 * after_s)
        raise SourceFailed(f"{self._url}: status {status}")


@asynccontextmanager
async def open_gateways(urls: Sequence[str]) -> AsyncIterator[Sequence[Gateway]]:
    """Open all configured gateways, which may redirect to each other.

    Raises:
        LocalError: a URL that is none.
    """
    hosts = [urlsplit(checked_url(url)).netloc for url in urls]
    http = httpx2.AsyncClient(
        # Neither proxies nor .netrc: what is asked goes where the operator said.
        trust_env=False,
        follow_redirects=False,
        timeout=SOCKET_S,
        limits=httpx2.Limits(max_connections=REQUESTS_MAX * max(1, len(urls))),
    )
    async with http:
        yield tuple(Gateway(url, http, hosts=hosts) for url in urls)
