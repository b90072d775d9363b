"""`python -m prsm.testnet.proxied --dir FOLDER`: the proxy of a network, as a process of its own.

It carries every link between the stages of a test, and takes orders on `proxy.sock` in the
network's folder. Knows: the folder's `proxy.json`. Must not know: nodes. It ends by SIGTERM.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.testnet import links
from prsm.testnet.links import Order, Report, carry_out
from prsm.testnet.proxy import Proxy

BACKLOG: Final = 16
LINE_BYTES_MAX: Final = 1024 * 1024


async def serve(folder: Path, *, task_status: trio.TaskStatus[None]) -> None:
    """Carry the links of a folder's network and obey, until cancelled.

    Raises:
        OSError: a port that the nodes were told is taken.
    """
    described = links.read(folder)
    if described is None:
        raise FileNotFoundError(folder / links.DESCRIPTION)
    ports = {(dialler, dialled): port for dialler, dialled, port in described.ports}
    proxy = Proxy.bind(described.count, seed=described.seed, ports=ports)
    carry_out(Order(described.base), proxy)
    (folder / links.SOCKET).unlink(missing_ok=True)
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    with links.socket_address(folder) as address:
        await listener.bind(address)
    (folder / links.SOCKET).chmod(0o600)
    listener.listen(BACKLOG)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(proxy.run, described.targets)
            task_status.started()
            while True:
                plain, _ = await listener.accept()
                nursery.start_soon(_obey, trio.SocketStream(plain), proxy)
    finally:
        listener.close()
        (folder / links.SOCKET).unlink(missing_ok=True)


async def _obey(stream: trio.SocketStream, proxy: Proxy) -> None:
    """Take one order and answer it; whoever sends none is hung up on."""
    line = b""
    try:
        while not line.endswith(b"\n"):
            part = bytes(await stream.receive_some(65_536))
            if not part or len(line) > LINE_BYTES_MAX:
                return
            line += part
        try:
            report = carry_out(msgspec.json.decode(line, type=Order), proxy)
        except msgspec.MsgspecError:
            report = Report(pid=os.getpid())
        await stream.send_all(msgspec.json.encode(report) + b"\n")
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        stream.socket.close()


async def _run(folder: Path) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, folder)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal comes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m prsm.testnet.proxied", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder of the network")
    trio.run(_run, parser.parse_args(arguments).dir)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
