"""Foreign IPFS programs as child processes: Kubo 0.22, js-ipfs 0.18.1, Helia 5.5.1, and an oracle.

Each runs on loopback with nobody to call and no multicast, in a folder of the test, and is ended
by SIGKILL to its own process id; it also ends when the test's end of its pipe does. Each question
has a deadline here, since none of them has one that holds. Installed by `scripts/ipfs_peers.py`;
`needs("kubo", ...)` skips with that script's reason.
"""

import json
import math
import os
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import pytest
import trio

from prsm.storage.dag.unixfs import LEGACY, UNIXFS_V1_2025, Profile
from scripts.ipfs_peers import CACHE, RECIPES, missing

START_SECONDS: Final = 90.0  # js-ipfs took 9 s alone, more beside others
ASK_SECONDS: Final = 60.0
_QUIET: Final = ("--no-warnings",)


def needs(*names: str) -> list[pytest.MarkDecorator]:
    """Return the marks of tests that talk to these peers."""
    reason = next((why for name in names if (why := missing(name))), "")
    return [pytest.mark.ipfs, pytest.mark.skipif(bool(reason), reason=reason)]


class IpfsPeer(Protocol):
    """What every foreign node can be asked; each raises `trio.TooSlowError` at its deadline."""

    kind: str
    peer: str
    addresses: tuple[str, ...]

    async def add(self, path: Path, profile: Profile) -> str:
        """Add a file, and return its root as this program spells it."""
        ...

    async def cat(self, cid: str, target: Path, *, seconds: float = ASK_SECONDS) -> int:
        """Write a file to `target`, fetching what it lacks; return its bytes."""
        ...

    async def connect(self, address: str) -> None:
        """Dial a multiaddress that ends in `/p2p/PEER`."""
        ...

    async def peers(self) -> Sequence[str]:
        """Return the ids of connected peers."""
        ...


class PeerRefused(AssertionError):
    """A peer answered with an error; its own words."""


@dataclass
class LinePeer:
    """A process that reads one JSON command a line and answers so: Kubo, Helia, the oracle."""

    kind: str
    process: trio.Process
    peer: str = ""
    addresses: tuple[str, ...] = ()
    answers: dict[int, dict[str, object]] = field(default_factory=dict)
    changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    is_gone: bool = False
    last_id: int = 0

    async def ask(
        self,
        command: str,
        fields: Mapping[str, object] | None = None,
        *,
        seconds: float = ASK_SECONDS,
    ) -> object:
        """Send a command and wait for its answer.

        Raises:
            PeerRefused: it said an error, or ended.
            trio.TooSlowError: no answer in time.
        """
        self.last_id += 1
        number = self.last_id
        line = json.dumps({"id": number, "command": command} | dict(fields or {})) + "\n"
        assert self.process.stdin is not None
        with trio.fail_after(seconds):
            await self.process.stdin.send_all(line.encode())
        return await self.answer(number, seconds)

    async def answer(self, number: int, seconds: float) -> object:
        """Wait for the answer of one command."""
        with trio.fail_after(seconds):
            while number not in self.answers:
                if self.is_gone:
                    raise PeerRefused(f"{self.kind} ended with {self.process.returncode}")
                await self.changed.park()
        said = self.answers.pop(number)
        if "error" in said:
            raise PeerRefused(f"{self.kind}: {said['error']}")
        return said["answer"]

    async def listen(self) -> None:
        """Read what it says until it ends."""
        assert self.process.stdout is not None
        waiting = b""
        async for data in self.process.stdout:
            *lines, waiting = (waiting + bytes(data)).split(b"\n")
            for line in lines:
                said = json.loads(line)
                self.answers[said["id"]] = said
            self.changed.unpark_all()
        self.is_gone = True
        self.changed.unpark_all()

    async def add(self, path: Path, profile: Profile = LEGACY) -> str:
        """Add a file (Kubo: or a folder); Kubo knows its own profile (`legacy`) only."""
        if self.kind == "kubo":
            assert profile == LEGACY, "Kubo 0.22 as a library has no settings"
            return str(await self.ask("add", {"path": str(path)}))
        return str(await self.ask("add", {"path": str(path)} | settings(profile)))

    async def hash(self, path: Path) -> str:
        """Kubo alone: the root of a file that is not kept."""
        return str(await self.ask("add", {"path": str(path), "only_hash": True}))

    async def folder(self, files: dict[str, Path], profile: Profile = UNIXFS_V1_2025) -> str:
        """The oracle alone: the root of a directory with these files, by path inside it."""
        named = {name: str(path) for name, path in files.items()}
        return str(await self.ask("folder", {"files": named} | settings(profile)))

    async def cat(self, cid: str, target: Path, *, seconds: float = ASK_SECONDS) -> int:
        """Write a file to `target`, fetching what it lacks; return its bytes."""
        fields: dict[str, object] = {"cid": cid, "target": str(target)}
        if self.kind != "kubo":
            fields["ms"] = int(seconds * 1000)
        size = await self.ask("cat", fields, seconds=seconds)
        return int(str(size))

    async def connect(self, address: str) -> None:
        """Dial a multiaddress that ends in `/p2p/PEER`."""
        await self.ask("connect", {"address": address})

    async def peers(self) -> Sequence[str]:
        """Return the ids of connected peers."""
        found = await self.ask("peers")
        assert isinstance(found, list)
        return [str(peer) for peer in found]


def settings(profile: Profile) -> dict[str, object]:
    """Return a profile as the JavaScript importers spell it."""
    return {
        "chunk": profile.chunk,
        "width": profile.width,
        "version": 0 if profile.wrapped else 1,
        "raw": not profile.wrapped,
    }


@dataclass
class JsIpfs:
    """The js-ipfs daemon, asked over its RPC; it speaks mplex only."""

    kind: str
    url: str
    gateway: str
    peer: str = ""
    addresses: tuple[str, ...] = ()

    async def call(
        self,
        path: str,
        arguments: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        target: Path | None = None,
        seconds: float = ASK_SECONDS,
    ) -> bytes:
        """POST to `/api/v0/PATH`; with `target` the answer goes into that file.

        Raises:
            PeerRefused: an error status, with what it said.
            trio.TooSlowError: silence for so many seconds.
        """
        query = urllib.parse.urlencode(arguments or {})
        boundary = "prsm-tests"
        headers = {}
        if body is not None:
            headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
            head = (
                f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
            )
            head += "Content-Type: application/octet-stream\r\n\r\n"
            body = head.encode() + body + f"\r\n--{boundary}--\r\n".encode()
        request = urllib.request.Request(
            f"{self.url}/api/v0/{path}?{query}",
            data=body,
            headers=headers,
            method="POST",
        )

        def run() -> bytes:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                if target is None:
                    return bytes(answer.read())
                with target.open("wb") as out:
                    shutil.copyfileobj(answer, out, 1 << 20)
                return b""

        try:
            return await trio.to_thread.run_sync(run, abandon_on_cancel=True)
        except urllib.error.HTTPError as error:
            raise PeerRefused(f"js-ipfs: {error.read()[:300]!r}") from error
        except (TimeoutError, urllib.error.URLError) as error:
            raise trio.TooSlowError(str(error)) from error

    async def add(self, path: Path, profile: Profile) -> str:
        """Add a file; width 174 is the only one this daemon has."""
        content = await trio.Path(path).read_bytes()
        assert profile.width == 174 or len(content) <= 174 * profile.chunk
        version = 0 if profile.wrapped else 1
        said = await self.call(
            "add",
            {
                "cid-version": str(version),
                "raw-leaves": str(not profile.wrapped).lower(),
                "chunker": f"size-{profile.chunk}",
                "pin": "false",
                "cid-base": "base32" if version else "base58btc",
            },
            body=content,
        )
        found: str = json.loads(said.splitlines()[-1])["Hash"]
        return found

    async def cat(self, cid: str, target: Path, *, seconds: float = ASK_SECONDS) -> int:
        """Write a file to `target`, fetching what it lacks; return its bytes."""
        with trio.fail_after(seconds):
            await self.call("cat", {"arg": cid}, target=target, seconds=seconds)
        return (await trio.Path(target).stat()).st_size

    async def connect(self, address: str) -> None:
        """Dial a multiaddress that ends in `/p2p/PEER`."""
        await self.call("swarm/connect", {"arg": address})

    async def peers(self) -> Sequence[str]:
        """Return the ids of connected peers."""
        found = json.loads(await self.call("swarm/peers"))["Peers"] or []
        return [str(row["Peer"]) for row in found]


@asynccontextmanager
async def kubo(folder: Path) -> AsyncIterator[LinePeer]:
    """Run Kubo 0.22 with a new repository in `folder`."""
    command = [
        str(CACHE / "kubo" / "bin" / "python"),
        str(RECIPES / "kubo" / "peer.py"),
        str(folder / "kubo"),
        str(free_ports(1)[0]),
    ]
    # A repository without bootstrap peers is all it may read.
    environment = {
        "HOME": str(folder),
        "IPFS_PATH": str(folder / "kubo"),
        "PATH": os.environ["PATH"],
    }
    async with _line_peer("kubo", command, cwd=folder, environment=environment) as peer:
        yield peer


@asynccontextmanager
async def helia() -> AsyncIterator[LinePeer]:
    """Run Helia 5.5.1; its blocks are in memory."""
    async with _line_peer("helia", _script("helia"), cwd=CACHE / "helia") as peer:
        yield peer


@asynccontextmanager
async def oracle() -> AsyncIterator[LinePeer]:
    """Run the importer of `ipfs-unixfs-importer` 17.1.1, which says CIDs and keeps nothing."""
    async with _line_peer("oracle", _script("oracle"), cwd=CACHE / "oracle") as peer:
        yield peer


@asynccontextmanager
async def js_ipfs(folder: Path) -> AsyncIterator[JsIpfs]:
    """Run the js-ipfs daemon with a new repository in `folder`."""
    api, gateway, rpc, swarm = free_ports(4)
    program = str(CACHE / "js-ipfs" / "node_modules" / ".bin" / "jsipfs")
    polyfill, leash = RECIPES / "polyfill.cjs", RECIPES / "leash.cjs"
    environment = dict(os.environ) | {
        "IPFS_PATH": str(folder / "repo"),
        "NODE_OPTIONS": f"--require {polyfill}",
    }
    for arguments in (
        ("init", "--profile", "test", "--empty-repo"),
        ("config", "Addresses.API", f"/ip4/127.0.0.1/tcp/{api}"),
        ("config", "Addresses.Gateway", f"/ip4/127.0.0.1/tcp/{gateway}"),
        ("config", "Addresses.RPC", f"/ip4/127.0.0.1/tcp/{rpc}"),
        ("config", "--json", "Addresses.Swarm", f'["/ip4/127.0.0.1/tcp/{swarm}"]'),
        ("config", "--json", "Bootstrap", "[]"),
        ("config", "--json", "Discovery.MDNS.Enabled", "false"),
    ):
        with trio.fail_after(START_SECONDS):
            await trio.run_process([program, *arguments], env=environment, capture_stdout=True)
    environment["NODE_OPTIONS"] += f" --require {leash}"
    async with _process([program, "daemon"], cwd=folder, environment=environment) as process:
        assert process.stdout is not None
        said = b""
        with trio.fail_after(START_SECONDS):
            while b"Daemon is ready" not in said:
                more = bytes(await process.stdout.receive_some())
                assert more, said
                said += more
        peer = JsIpfs("js-ipfs", f"http://127.0.0.1:{api}", f"http://127.0.0.1:{gateway}")
        found = json.loads(await peer.call("id"))
        peer.peer, peer.addresses = found["ID"], tuple(found["Addresses"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, process)
            yield peer
            nursery.cancel_scope.cancel()


async def _drain(process: trio.Process) -> None:
    assert process.stdout is not None
    async for _ in process.stdout:
        pass  # a full pipe would stop it


def _script(name: str) -> list[str]:
    """Put our front beside its packages, where imports are looked up, and return how to run it."""
    for path in (RECIPES / name / "peer.mjs", RECIPES / "lines.mjs"):
        fresh = CACHE / name / f"{path.name}.{os.getpid()}"
        shutil.copy(path, fresh)
        fresh.replace(CACHE / name / path.name)
    return ["node", *_QUIET, "--require", str(RECIPES / "polyfill.cjs"), "peer.mjs"]


@asynccontextmanager
async def _line_peer(
    kind: str, command: Sequence[str], *, cwd: Path, environment: dict[str, str] | None = None
) -> AsyncIterator[LinePeer]:
    async with (
        _process(command, cwd=cwd, environment=environment) as process,
        trio.open_nursery() as nursery,
    ):
        line_peer = LinePeer(kind, process)
        nursery.start_soon(line_peer.listen)
        said = await line_peer.answer(0, START_SECONDS)
        assert isinstance(said, dict)
        line_peer.peer, line_peer.addresses = said["peer"], tuple(said["addresses"])
        yield line_peer
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _process(
    command: Sequence[str], *, cwd: Path, environment: dict[str, str] | None
) -> AsyncIterator[trio.Process]:
    with (cwd / f"log-{os.getpid()}").open("ab") as log:
        process = await trio.lowlevel.open_process(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()  # Go ignores SIGTERM
        with trio.CancelScope(deadline=math.inf, shield=True):
            await process.wait()


def free_ports(count: int) -> list[int]:
    """Return TCP ports of loopback that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for made in sockets:
            made.bind(("127.0.0.1", 0))
        return [made.getsockname()[1] for made in sockets]
    finally:
        for made in sockets:
            made.close()
