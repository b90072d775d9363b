"""A daemon that is told to end while a hundred clients do not read: it ends, in time, with 0."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prsm.node.web.serve import Bounds
from prsm.testnet import launch

pytestmark = [pytest.mark.long, pytest.mark.e2e]
READERS, SOCKETS = 50, 50
CALLS = 40  # each answered with the whole OpenRPC document
MARGIN_S = 2.0


@pytest.fixture
def network(tmp_path: Path) -> Iterator[launch.Network]:
    network = launch.create(tmp_path / "net", 1)
    try:
        network.start()
        yield network
    finally:
        network.stop()


def test_slow_readers_and_sockets_do_not_hold_a_daemon(network: launch.Network) -> None:
    node = network.nodes[0]
    where = json.loads(node.home.endpoint.read_bytes())["http"]
    token = node.home.cookie.read_text(encoding="ascii").strip()
    host, _, port = where.rpartition(":")
    head = f"Host: {where}\r\nAuthorization: Bearer {token}\r\n"
    body = '{"jsonrpc":"2.0","id":1,"method":"rpc_discover"}'
    ask = (
        f"POST /rpc HTTP/1.1\r\n{head}Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    upgrade = (
        f"GET /ws HTTP/1.1\r\n{head}Connection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    streams = []
    for number in range(READERS + SOCKETS):
        stream = socket.socket()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.settimeout(5)
        stream.connect((host, int(port)))
        streams.append(stream)
        if number < READERS:
            stream.sendall(ask * CALLS)
        else:
            stream.sendall(upgrade)
            assert stream.recv(4096).startswith(b"HTTP/1.1 101")
    began = time.monotonic()
    os.kill(node.pid, signal.SIGTERM)
    _pid, status = os.waitpid(node.pid, 0)
    took = time.monotonic() - began
    node.pid = 0
    for stream in streams:
        stream.close()
    assert os.waitstatus_to_exitcode(status) == 0
    assert took <= Bounds().drain_s + MARGIN_S
