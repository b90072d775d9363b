"""The door with TLS: who can speak with it, which files it takes, who may connect."""

import itertools
import math
import os
import socket
import ssl
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import trio
import trio.testing

from prsm.node.certificate import read_end_s
from prsm.node.rpc.client import Client, RpcError, find
from prsm.node.rpc.errors import NodeUnreachable, PublicBind
from prsm.node.rpc.methods.node import Pong
from prsm.node.rpc.target import Credentials
from prsm.node.web import serve as serve_module
from prsm.node.web.serve import Bounds, Door
from prsm.node.web.tls import AllowFrom, Tls, TlsUnusable, Visitors
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.storage.keystore import save_seed
from tests.tools.certificates import write_certificate
from tests.tools.rpc_door import OpenDoor, auth, exchange, open_door, request


def pinged(door: OpenDoor, shown: Credentials, *, node: str = "") -> str:
    """The name under which the door knew the caller."""
    target = find(door.home, node=node or f"https://{door.bound.http}", shown=shown)
    with Client(target, timeout_s=10) as client:
        for _ in range(2):  # over one kept connection
            client.call("rpc_ping", result=Pong)
    return door.node.callers[-1].name


async def test_programs_speak_tls_with_tokens_and_with_signatures(tmp_path: Path) -> None:
    pem, key = write_certificate(tmp_path)
    seed = tmp_path / "remote.key"
    save_seed(seed, b"\7" * 32)
    public = "0x" + Ed25519Signer(b"\7" * 32).public_key.hex()

    async with open_door(tmp_path, change=lambda d: replace(d, tls=Tls(pem, key))) as door:
        door.clock.now_ms = time.time_ns() // 1_000_000
        place = f"https://127.0.0.1:{door.bound.port}"
        text = await door.token("read")
        run = trio.to_thread.run_sync
        assert await run(lambda: pinged(door, Credentials(text, ca=pem), node=place)) == "token t"
        await door.token("read", public_key=public)
        shown = Credentials(sign_key=seed, ca=pem)
        assert await run(lambda: pinged(door, shown, node=place)) == "key t"
        with pytest.raises(NodeUnreachable, match="certificate verify failed"):
            await run(lambda: pinged(door, Credentials(text), node=place))
        with pytest.raises(NodeUnreachable, match="clear text"):
            find(door.home, node=f"http://192.0.2.1:{door.bound.port}")
        assert f"https://{door.bound.http}" in door.home.endpoint.read_text()
        # In clear text nothing answers.
        with pytest.raises(NodeUnreachable):
            await run(lambda: pinged(door, Credentials(text), node=place.replace("https", "http")))
        stranger = Credentials("aa.bb.cc", ca=pem)
        with pytest.raises(RpcError, match="not one of this node"):
            await run(lambda: pinged(door, stranger, node=place))


async def test_pages_of_the_same_name_in_clear_text_are_foreign(tmp_path: Path) -> None:
    pem, key = write_certificate(tmp_path)
    context = ssl.create_default_context(cafile=pem)

    def change(door: Door) -> Door:
        return replace(door, tls=Tls(pem, key), names=("node.test",))

    async with open_door(tmp_path, change=change) as door:
        own, port = door.bound.http, door.bound.port
        for host, origin, status in (
            (own, f"https://{own}", 200),
            (own, f"http://{own}", 403),
            (f"node.test:{port}", f"https://node.test:{port}", 200),
            (f"other.test:{port}", None, 403),
        ):
            raw = request(headers={**auth(door), "Host": host, "Origin": origin})
            stream = trio.SSLStream(
                await door.tcp(), context, server_hostname="127.0.0.1", https_compatible=True
            )
            assert (await exchange(stream, raw)).status == status  # type: ignore[arg-type]  # reads and writes alike


async def test_a_handshake_that_stops_halfway_holds_nobody(tmp_path: Path) -> None:
    pem, key = write_certificate(tmp_path)
    async with open_door(tmp_path, change=lambda d: replace(d, tls=Tls(pem, key))) as door:
        for junk in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 50):
            async with await door.tcp() as stream:
                await stream.send_all(junk)
                await stream.send_eof()
                with trio.fail_after(3):
                    while await stream.receive_some():
                        pass
        text = await door.token("read")
        shown = Credentials(text, ca=pem)
        assert await trio.to_thread.run_sync(lambda: pinged(door, shown)) == "token t"


def test_addresses_of_a_list_and_of_this_machine_may_connect() -> None:
    allow = AllowFrom(("10.0.0.0/8", "2001:db8::/32"))
    for address, may in (
        *(("127.0.0.1", True), ("::1", True), ("10.1.2.3", True), ("::ffff:10.1.2.3", True)),
        *(("192.0.2.1", False), ("2001:db8::5", True), ("fe80::1%eth0", False)),
        *(("::ffff:192.0.2.1", False),),
    ):
        assert (address in allow) == may, address
    assert "192.0.2.1" in AllowFrom(())


def test_one_address_elsewhere_takes_some_places_and_gives_them_back() -> None:
    visitors = Visitors(2, all_max=9)
    with visitors.enter("192.0.2.1") as first, visitors.enter("192.0.2.1") as second:
        with visitors.enter("192.0.2.1") as third, visitors.enter("192.0.2.2") as other:
            assert (first, second, third, other) == (True, True, False, True)
        for address in ("", "127.0.0.1", "::1"):
            with visitors.enter(address), visitors.enter(address), visitors.enter(address) as here:
                assert here
    assert not visitors._open
    with visitors.enter("fe80::1%eth0") as later:
        assert later


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2a00:1450::7", "2a00:1450::8:9:a:b", True),  # whoever has one address there has all
        ("2a00:1450::7", "2a00:1450:0:1::7", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fd00::1", "fd00::2", False),  # a network of somebody's own: each machine for itself
        ("fe80::1%eth0", "fe80::2%eth0", False),
    ],
)
def test_a_machine_with_many_addresses_counts_once(one: str, other: str, *, are_one: bool) -> None:
    visitors = Visitors(1, all_max=9)
    with visitors.enter(one) as first, visitors.enter(other) as second:
        assert (first, second) == (True, not are_one)
    assert not visitors._open


def test_this_machine_is_not_counted_on_a_socket_of_both_families() -> None:
    visitors = Visitors(0, all_max=9)
    with visitors.enter("::ffff:127.0.0.1") as here, visitors.enter("::ffff:192.0.2.1") as there:
        assert (here, there) == (True, False)


async def test_other_machines_together_leave_places_to_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some addresses, each within its bound, took all: the operator's own socket said 503."""
    strangers = itertools.count(1)

    def address(stream: trio.SocketStream) -> str:
        return "" if stream.socket.family == socket.AF_UNIX else f"192.0.2.{next(strangers)}"

    monkeypatch.setattr(serve_module, "_address", address)
    async with open_door(tmp_path, bounds=Bounds(connections=8, idle_s=60.0)) as door:
        held = [await door.tcp() for _ in range(9)]
        await trio.testing.wait_all_tasks_blocked(0.01)
        answer = await exchange(await door.unix(), request())
        assert answer.status == 200
        for one in held:
            await trio.aclose_forcefully(one)


def test_places_of_other_machines_are_given_back() -> None:
    visitors = Visitors(2, all_max=2)
    for _ in range(3):
        with ExitStack() as stack:
            places = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "127.0.0.1")
            found = [stack.enter_context(visitors.enter(one)) for one in places]
            assert found == [True, True, False, True]
    assert not visitors._open


@pytest.mark.parametrize("has_tls", [True, False])
async def test_no_public_address_without_both(tmp_path: Path, has_tls: bool) -> None:
    pem, key = write_certificate(tmp_path)

    def change(door: Door) -> Door:
        public = replace(door, host="0.0.0.0")
        return replace(public, tls=Tls(pem, key), tokens=None) if has_tls else public

    with pytest.RaisesGroup(PublicBind):
        async with open_door(tmp_path, change=change):
            pytest.fail("it opened")


def test_a_renewed_certificate_is_taken_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    pem, key = write_certificate(tmp_path)
    tls = Tls(pem, key)
    first = tls.context()
    assert tls.context() is first
    write_certificate(tmp_path)
    os.utime(pem, ns=(1, 1))
    second = tls.context()
    assert second is not first
    pem.write_text("torn")
    assert tls.context() is second
    pem.unlink()
    assert tls.context() is second


def test_a_renewed_certificate_of_the_same_age_is_taken(tmp_path: Path) -> None:
    """As a program that copies times with files leaves it, or one that sets all to one."""
    (tmp_path / "new").mkdir()
    places = write_certificate(tmp_path)
    renewed = write_certificate(tmp_path / "new")
    for path in (*places, *renewed):
        os.utime(path, ns=(1, 1))
    tls = Tls(*places)
    first = tls.context()
    for path, new in zip(places, renewed, strict=True):
        new.replace(path)
    assert tls.context() is not first


def test_the_seconds_left_are_of_the_pair_that_is_served(tmp_path: Path) -> None:
    """Renewed: of the new one, though nobody connected since; damaged: of the one it has."""
    places = write_certificate(tmp_path, left=timedelta(days=2))
    tls = Tls(*places)
    assert tls.left_s(read_end_s(places[0]) - 5) == 5
    write_certificate(tmp_path, left=timedelta(days=90))
    renewed_s = read_end_s(places[0])
    assert tls.left_s(renewed_s - 7) == 7
    places[0].write_bytes(b"-----BEGIN CERTIFICATE-----")
    assert tls.left_s(renewed_s + 9) == -9


def test_of_a_chain_the_first_that_ends_counts(tmp_path: Path) -> None:
    places = write_certificate(tmp_path, left=timedelta(days=90))
    above, _ = write_certificate(tmp_path, "above", left=timedelta(days=4))
    places[0].write_bytes(places[0].read_bytes() + above.read_bytes())
    assert Tls(*places).left_s(0) == read_end_s(above)


def test_an_end_that_cannot_be_read_keeps_no_door_shut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> float:
        raise ValueError(f"{path}: a serial number of an odd form")

    monkeypatch.setattr("prsm.node.web.tls.read_end_s", refuse)
    assert Tls(*write_certificate(tmp_path)).left_s(0) == math.inf


def test_unusable_pairs_are_refused_at_start(tmp_path: Path) -> None:
    pem, key = write_certificate(tmp_path)
    _, other = write_certificate(tmp_path, "other")
    with pytest.raises(TlsUnusable, match="no pair"):
        Tls(pem, other)
    with pytest.raises(TlsUnusable, match="cannot be read"):
        Tls(tmp_path / "none", key)
    key.chmod(0o640)
    with pytest.raises(TlsUnusable, match="0640"):
        Tls(pem, key)
