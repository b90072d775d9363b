"""Signed requests at a real door: body, path and host are bound; a copy is refused."""

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from prsm.node.rpc.signatures import NONCE_BYTES, Request, digest_of, sign
from prsm.protocol.ed25519 import Ed25519Signer
from tests.tools.rpc_door import PING, OpenDoor, exchange, open_door, request

SIGNER = Ed25519Signer(b"\5" * 32)
PUBLIC = "0x" + SIGNER.public_key.hex()


def headers_of(
    door: OpenDoor,
    *,
    body: bytes = PING,
    path: str = "/rpc",
    signer: Ed25519Signer = SIGNER,
    late_s: int = 0,
) -> dict[str, str | None]:
    asked = Request("POST", door.bound.http, path, "", digest_of(body))
    now_s = door.clock.now_ms // 1000 + late_s
    nonce = secrets.token_bytes(NONCE_BYTES)
    return {"Host": door.bound.http, **sign(asked, signer, created_s=now_s, nonce=nonce)}


async def test_a_signed_request_has_the_rights_of_its_record(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        await door.token("read", public_key=PUBLIC, tenant="far")
        answer = await exchange(await door.tcp(), request(headers=headers_of(door)))
        assert answer.status == 200
        caller = door.node.callers[-1]
        assert (caller.name, caller.tenant, sorted(caller.scopes)) == ("key t", "far", ["read"])
        stop = PING.replace(b"rpc_ping", b"node_stop")
        raw = request(body=stop, headers=headers_of(door, body=stop))
        assert (await exchange(await door.tcp(), raw)).json["error"]["code"] == -32002
        await door.tokens.revoke(door.tokens.of_key(PUBLIC).id)
        answer = await exchange(await door.tcp(), request(headers=headers_of(door)))
        assert answer.status == 401
        assert len(door.node.calls) == 1


async def test_a_copy_is_refused_also_over_a_kept_connection(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        await door.token("read", public_key=PUBLIC)
        raw = request(headers=headers_of(door))
        assert (await exchange(await door.tcp(), raw)).status == 200
        again = await exchange(await door.tcp(), raw)
        assert (again.status, "nonce" in again.json["error"]["message"]) == (401, True)
        # The signer of one request is nobody in the next one of its connection.
        async with await door.tcp() as stream:
            await stream.send_all(request(headers=headers_of(door)))
            await stream.receive_some()
            unsigned = request(headers={"Host": door.bound.http})
            assert (await exchange(stream, unsigned)).status == 401
        assert len(door.node.calls) == 2


Spoil = Callable[[OpenDoor, dict[str, str | None]], bytes]


def _other_body(_door: OpenDoor, headers: dict[str, str | None]) -> bytes:
    return request(body=PING.replace(b"1", b"2"), headers=headers)


def _other_body_and_digest(_door: OpenDoor, headers: dict[str, str | None]) -> bytes:
    body = PING.replace(b"1", b"2")
    return request(body=body, headers={**headers, "Content-Digest": digest_of(body)})


def _other_path(_door: OpenDoor, headers: dict[str, str | None]) -> bytes:
    return request(path="/", headers=headers)


def _other_host(door: OpenDoor, headers: dict[str, str | None]) -> bytes:
    return request(headers={**headers, "Host": f"localhost:{door.bound.port}"})


def _with_query(_door: OpenDoor, headers: dict[str, str | None]) -> bytes:
    return request(path="/rpc?x=1", headers=headers)


def _no_digest(_door: OpenDoor, headers: dict[str, str | None]) -> bytes:
    return request(headers={**headers, "Content-Digest": None})


def _half(_door: OpenDoor, headers: dict[str, str | None]) -> bytes:
    return request(headers={**headers, "Signature": None})


def _other_half(_door: OpenDoor, headers: dict[str, str | None]) -> bytes:
    return request(headers={**headers, "Signature-Input": None})


def _late(door: OpenDoor, _headers: dict[str, str | None]) -> bytes:
    return request(headers=headers_of(door, late_s=-61))


def _early(door: OpenDoor, _headers: dict[str, str | None]) -> bytes:
    return request(headers=headers_of(door, late_s=61))


def _stranger(door: OpenDoor, _headers: dict[str, str | None]) -> bytes:
    return request(headers=headers_of(door, signer=Ed25519Signer(b"\6" * 32)))


@pytest.mark.parametrize(
    "spoil",
    [
        *(_other_body, _other_body_and_digest, _other_path, _other_host, _with_query, _no_digest),
        *(_half, _other_half, _late, _early, _stranger),
    ],
)
async def test_what_was_not_signed_so_is_refused(tmp_path: Path, spoil: Spoil) -> None:
    async with open_door(tmp_path) as door:
        await door.token("read", public_key=PUBLIC)
        answer = await exchange(await door.tcp(), spoil(door, headers_of(door)))
        assert (answer.status, answer.json["error"]["code"]) == (401, -32001)
        assert not door.node.calls
