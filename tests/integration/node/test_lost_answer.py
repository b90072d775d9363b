"""A client whose answers are lost on the way pays once: its keys and the node's memory of them."""

import functools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
import trio

from prsm.client import AsyncClient, Client, Retries
from prsm.node.callers.once import Once
from prsm.node.home import Home
from prsm.node.rpc.dispatch import bind
from prsm.node.rpc.methods.wallet import Transferred
from prsm.node.web.app import Health
from prsm.node.web.serve import Door, serve
from prsm.storage.answers import AnswerStore
from tests.tools.announced import SetClock
from tests.tools.rpc_node import FakeNode

QUICK = Retries(tries=4, first_s=0.001, most_s=0.002)
ADDRESS = "0x" + "07" * 32


@contextmanager
def losing(far_port: list[int], *, answers: int) -> Iterator[int]:
    """A relay that passes requests on and loses the first answers; its port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    left = [answers]

    def relay_one(near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", far_port[0])) as far:
            while request := near.recv(65536):
                far.sendall(request)
                answer = far.recv(65536)
                left[0] -= 1
                if left[0] >= 0:
                    return
                near.sendall(answer)

    def relay() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=relay_one, args=(near,), daemon=True).start()

    thread = threading.Thread(target=relay)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def pay(home: Path, place: str) -> Transferred:
    with Client(home, node=place, retries=QUICK) as client:
        return client.wallet.transfer(ADDRESS, 5)


def pay_in_a_loop(home: Path, place: str) -> Transferred:
    async def main() -> Transferred:
        async with AsyncClient(home, node=place, retries=QUICK) as client:
            return await client.wallet.transfer(ADDRESS, 5)

    return anyio.run(main)


@pytest.mark.parametrize("send", [pay, pay_in_a_loop])
async def test_two_lost_answers_are_one_payment(
    tmp_path: Path, send: Callable[[Path, str], Transferred]
) -> None:
    home = Home(tmp_path / "home")
    home.create()
    node, ports = FakeNode(), list[int]()
    once = Once(functools.partial(AnswerStore.open, tmp_path / "answers.db"), SetClock(), bytes(32))
    dispatcher = bind(node.handlers(), layers=[once.layer])
    health = Health("tester", "0.1.0", str)
    with losing(ports, answers=2) as lossy:
        place = f"127.0.0.1:{lossy}"
        door = Door("127.0.0.1", 0, home.cookie, names=(place,))
        async with trio.open_nursery() as nursery:
            await nursery.start(once.run)
            bound = await nursery.start(
                functools.partial(serve, dispatcher, door=door, health=health)
            )
            ports.append(bound.port)
            sent = await trio.to_thread.run_sync(send, home.root, place)
            nursery.cancel_scope.cancel()
    assert sent.tx_id
    assert len(node.calls) == 1
