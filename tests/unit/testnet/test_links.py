"""The proxy as a process of its own: orders over its socket, its end by its pid alone."""

import os
import socket
from pathlib import Path

import pytest

from prsm.testnet import links
from prsm.testnet.launch import free_ports
from prsm.testnet.links import (
    Described,
    FarLinks,
    NearLinks,
    NoProxy,
    Order,
    PlainLinks,
    ask,
    row_of,
)
from prsm.testnet.proxy import CLEAR, STALLED, Conditions, Proxy


async def test_near_links_give_ways_their_conditions() -> None:
    """As the proxy of this process has them."""
    proxy = Proxy.bind(2)
    near = NearLinks(proxy)
    try:
        await near.impose({(0, 1): STALLED, (1, 0): Conditions(5, 1, 0.25, 9)})
        assert proxy.ways[0, 1].conditions == STALLED
        assert proxy.ways[1, 0].conditions == Conditions(5, 1, 0.25, 9)
        assert await near.cut(0, 1) == 0
        assert (await near.carried()).bytes_passed == 0
    finally:
        proxy.close()


async def test_plain_links_refuse_what_nobody_could_do() -> None:
    """Clear conditions are what they have."""
    plain = PlainLinks()
    await plain.impose({(0, 1): CLEAR})
    with pytest.raises(NoProxy):
        await plain.impose({(0, 1): STALLED})
    with pytest.raises(NoProxy):
        await plain.cut(0, 1)
    assert (await plain.carried()).bytes_passed == 0


def test_folder_without_a_proxy(tmp_path: Path) -> None:
    """Nothing to start or to end; orders are refused."""
    assert links.read(tmp_path) is None
    links.start(tmp_path)
    links.stop(tmp_path)
    with pytest.raises(NoProxy, match="does not answer"):
        ask(tmp_path, Order())


def echo(port: int) -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    listener.listen()
    listener.settimeout(10)
    return listener


@pytest.mark.slow
async def test_process_carries_obeys_and_ends(tmp_path: Path) -> None:
    """In a folder whose path is longer than a socket's may be: base, a stall, a cut, the end."""
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    there, back, node0, node1 = free_ports(4)
    base = tuple(row_of(way, CLEAR) for way in ((0, 1), (1, 0)))
    Described(7, 2, ((0, 1, there), (1, 0, back)), (node0, node1), base).save(folder)
    listener = echo(node1)
    links.start(folder)
    try:
        links.start(folder)  # a second one does nothing
        pid = ask(folder, Order()).pid
        described = links.read(folder)
        assert described is not None
        assert described.pid == pid
        far = FarLinks(folder)
        with socket.create_connection(("127.0.0.1", there), timeout=10) as near_end:
            far_end, _ = listener.accept()
            far_end.settimeout(10)
            near_end.sendall(b"one")
            assert far_end.recv(3) == b"one"
            assert (await far.carried()).bytes_passed == 3
            await far.impose({(0, 1): STALLED})
            near_end.sendall(b"two")
            far_end.settimeout(0.2)
            with pytest.raises(TimeoutError):
                far_end.recv(3)
            await far.impose({(0, 1): CLEAR})
            far_end.settimeout(10)
            assert far_end.recv(3) == b"two"
            assert await far.cut(0, 1) == 1
            far_end.close()
    finally:
        links.stop(folder)
        listener.close()
    assert not links.is_running(folder)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
