"""The clients over TLS: with a token, with signed requests, on a connection that is kept."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import msgspec
import pytest
import trio

from prsm.client import AsyncClient, Client, Credentials, Retries, errors
from prsm.node.rpc.methods.subscriptions import HeadRow
from prsm.node.web.tls import Tls
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.storage.keystore import save_seed
from tests.tools.certificates import write_certificate
from tests.tools.rpc_door import OpenDoor, open_door
from tests.tools.rpc_node import sample

ONCE = Retries(tries=1)
Talk = Callable[[Path, str, Credentials], list[int]]


def talk(home: Path, place: str, shown: Credentials) -> list[int]:
    """Two calls over one connection, and two rows of a topic."""
    with Client(home, node=place, shown=shown, retries=ONCE) as client:
        client.rpc.ping()
        with client.subscribe("heads", resume_from=0) as heads:
            client.rpc.ping()
            return [heads.next(10).result.height for _ in range(2)]


def talk_in_a_loop(home: Path, place: str, shown: Credentials) -> list[int]:
    async def main() -> list[int]:
        async with AsyncClient(home, node=place, shown=shown, retries=ONCE) as client:
            await client.rpc.ping()
            async with client.subscribe("heads", resume_from=0) as heads:
                await client.rpc.ping()
                with anyio.fail_after(10):
                    return [(await heads.next()).result.height for _ in range(2)]

    return anyio.run(main)


@pytest.mark.slow
@pytest.mark.parametrize("speak", [talk, talk_in_a_loop])
@pytest.mark.parametrize("by", ["token", "signature"])
async def test_a_client_from_afar(tmp_path: Path, speak: Talk, by: str) -> None:
    pem, key = write_certificate(tmp_path)
    async with open_door(tmp_path, change=lambda d: replace(d, tls=Tls(pem, key))) as door:
        door.clock.now_ms = time.time_ns() // 1_000_000
        for height in (3, 4):
            plain = msgspec.to_builtins(sample(HeadRow))
            door.events.publish("heads", msgspec.convert({**plain, "height": height}, type=HeadRow))
        shown = await credentials(door, tmp_path, pem, by)
        place = f"https://127.0.0.1:{door.bound.port}"
        absent = tmp_path / "no-home-here"
        run = trio.to_thread.run_sync
        assert await run(lambda: speak(absent, place, shown)) == [3, 4]
        assert {caller.name for caller in door.node.callers} == {
            "token t" if by == "token" else "key t"
        }
        stranger = Credentials("aa.bb.cc", ca=pem)
        with pytest.raises(errors.Unauthorised):
            await run(lambda: speak(absent, place, stranger))
        with pytest.raises(errors.NodeUnreachable, match="certificate verify failed"):
            await run(lambda: speak(absent, place, replace(shown, ca=None)))


async def credentials(door: OpenDoor, folder: Path, pem: Path, by: str) -> Credentials:
    if by == "token":
        return Credentials(await door.token("read"), ca=pem)
    seed = folder / "remote.key"
    save_seed(seed, b"\7" * 32)
    await door.token("read", public_key="0x" + Ed25519Signer(b"\7" * 32).public_key.hex())
    return Credentials(sign_key=seed, ca=pem)


def test_a_secret_never_goes_elsewhere_in_clear_text(tmp_path: Path) -> None:
    with pytest.raises(errors.NodeUnreachable, match="clear text"):
        Client(tmp_path, node="http://192.0.2.1:80", shown=Credentials("secret"))
    with pytest.raises(errors.NodeUnreachable, match="clear text"):
        AsyncClient(tmp_path, node="http://192.0.2.1:80", shown=Credentials("secret"))
