"""The client and the finder of port holders, against a served fake node."""

import os
import socket
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from prsm.node.home import Home, HomeMissing
from prsm.node.listeners import find_listener
from prsm.node.rpc.client import Client, RpcError, find
from prsm.node.rpc.dispatch import bind
from prsm.node.rpc.errors import CallTimeout, NodeUnreachable, PortTaken
from prsm.node.rpc.methods.node import Pong
from prsm.node.rpc.ports import ask_alive, describe_holder
from prsm.node.web.app import Health
from prsm.node.web.serve import Bounds, Door, serve
from tests.tools.rpc_door import (
    open_door,
)
from tests.tools.rpc_node import FakeNode


async def test_the_client_speaks_both_doors(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:

        def talk() -> None:
            for place in ("", f"http://{door.bound.http}", f"unix:{door.home.socket}"):
                with Client(find(door.home, node=place)) as client:
                    pong = client.call("rpc_ping", result=Pong)
                    assert pong.time
                    assert client.call_raw("rpc_ping", {}).startswith(b"{")
                    with pytest.raises(RpcError) as caught:
                        client.call_raw("rpc_ping", {"x": 1})
                    assert caught.value.reason == "invalid_params"
                    assert caught.value.exit_code == 2
                    assert client.get("/readyz")[0] == 200

        await trio.to_thread.run_sync(talk)
        door.home.cookie.write_text("stale", encoding="ascii")

        def refused() -> None:
            with Client(find(door.home, node=door.bound.http)) as client:
                with pytest.raises(RpcError) as caught:
                    client.call_raw("rpc_ping")
                assert caught.value.exit_code == 4

        await trio.to_thread.run_sync(refused)
    with pytest.raises(NodeUnreachable, match="no node runs"):
        find(door.home)


async def test_the_client_survives_a_connection_the_node_closed(tmp_path: Path) -> None:
    async with open_door(tmp_path, bounds=Bounds(idle_s=0.05)) as door:

        def talk(client: Client) -> bytes:
            return client.call_raw("rpc_ping")

        with Client(find(door.home)) as client:
            await trio.to_thread.run_sync(talk, client)
            await trio.sleep(0.15)
            await trio.to_thread.run_sync(talk, client)
        assert len(door.node.calls) == 2


async def test_the_cookie_is_read_once_a_connection(tmp_path: Path) -> None:
    """Not for each call; a node that was restarted has a new connection, and another cookie."""
    async with open_door(tmp_path) as door:
        good = door.cookie

        def talk() -> None:
            with Client(find(door.home, node=door.bound.http)) as client:
                client.call_raw("rpc_ping")
                door.home.cookie.write_text("0" * 64, encoding="ascii")
                client.call_raw("rpc_ping")
                client.close()
                with pytest.raises(RpcError) as caught:
                    client.call_raw("rpc_ping")
                assert caught.value.exit_code == 4
                door.home.cookie.write_text(good, encoding="ascii")
                client.call_raw("rpc_ping")

        await trio.to_thread.run_sync(talk)
        assert len(door.node.calls) == 3


@pytest.mark.slow
async def test_a_taken_port_names_its_holder(tmp_path: Path) -> None:
    """First a node of ours, then any program of this user."""
    health = Health("x", "0", str)
    async with open_door(tmp_path) as door:
        taken = Door("127.0.0.1", door.bound.port, tmp_path / "cookie")
        with pytest.raises(PortTaken) as caught:
            await serve(bind(FakeNode().handlers()), door=taken, health=health)
        assert f"the PRSM node 'tester', process {os.getpid()}" in caught.value.what
        assert "rpc.listen" in caught.value.hint
        assert not (tmp_path / "cookie").exists()
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        plain.listen()
        port = plain.getsockname()[1]
        assert find_listener(port) == os.getpid()
        text = await trio.to_thread.run_sync(describe_holder, "127.0.0.1", port)
        assert f"process {os.getpid()}" in text
    assert ask_alive("127.0.0.1", port) is None
    assert find_listener(port) is None


def _serve_once(answer: bytes) -> tuple[str, threading.Thread]:
    """A program that answers one connection with these bytes, whatever it is asked."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    def serve_one() -> None:
        with listener:
            stream, _ = listener.accept()
            with stream:
                stream.recv(65536)
                stream.sendall(answer)

    thread = threading.Thread(target=serve_one)
    thread.start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", thread


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (b"", NodeUnreachable, "closed before an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", NodeUnreachable, "no PRSM node"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhey", NodeUnreachable, "no PRSM node"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", NodeUnreachable, "no PRSM node"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhey", NodeUnreachable, "3 of 99"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", NodeUnreachable, "at most"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", NodeUnreachable, "chunked"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", NodeUnreachable, "neither result"),
        (b"HTTP/1.1 " + b"x" * 70_000, NodeUnreachable, "of head"),
    ],
)
def test_the_client_names_what_is_no_node(
    tmp_path: Path, answer: bytes, error: type[Exception], text: str
) -> None:
    place, thread = _serve_once(answer)
    with Client(find(Home(tmp_path), node=place)) as client, pytest.raises(error, match=text):
        client.call_raw("rpc_ping")
    thread.join(5)


def test_the_client_gives_up_at_its_deadline(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        target = find(Home(tmp_path), node=place)
        with (
            Client(target, timeout_s=0.05) as client,
            pytest.raises(CallTimeout, match=r"0\.05 s"),
        ):
            client.call_raw("rpc_ping")


@pytest.mark.parametrize(
    "place",
    [
        *("http://192.0.2.1:80", "http://example.test:80", "localhost", "127.0.0.1:99999"),
        "127.0.0.1:" + "1" * 5_000,  # Python reads no number of so many digits
    ],
)
def test_the_client_sends_its_token_to_this_machine_only(tmp_path: Path, place: str) -> None:
    with pytest.raises(NodeUnreachable, match="no address of this machine"):
        find(Home(tmp_path), node=place)


@pytest.mark.parametrize("place", ["127.lab.example:8480", "127.0.0.1.lab.example:8480"])
def test_a_name_that_begins_as_this_machine_is_somewhere_else(tmp_path: Path, place: str) -> None:
    for node in (place, f"http://{place}"):
        with pytest.raises(NodeUnreachable, match="clear text"):
            find(Home(tmp_path), node=node)
    assert find(Home(tmp_path), node=f"https://{place}").cookie is None


@pytest.mark.parametrize(
    "place", ["127.0.0.1:1", "127.8.0.1:1", "localhost:1", "http://[::1]:1", "https://127.0.0.1:1"]
)
def test_this_machine_is_shown_the_cookie(tmp_path: Path, place: str) -> None:
    home = Home(tmp_path)
    assert find(home, node=place).cookie == home.cookie


def test_find_tells_an_absent_home_from_a_stopped_node(tmp_path: Path) -> None:
    with pytest.raises(HomeMissing):
        find(Home(tmp_path / "none"))
    home = Home(tmp_path / "home")
    home.create()
    with pytest.raises(NodeUnreachable, match="no node runs"):
        find(home)
    home.endpoint.write_text('{"pid": 1, "http": "192.0.2.1:1"}', encoding="ascii")
    with pytest.raises(NodeUnreachable, match="no address of this machine"):
        find(home)
