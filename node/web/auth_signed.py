"""Signed requests: checked whole, body included, before any route sees them.

A route behind this finds the signer in `scope["state"]["peer"]`, as it finds the process behind a
unix socket; a request without the headers passes untouched. Source: docs/spec/rpc.md, "Signed".

Knows: ASGI, the form of signatures, the gate. Must not know: methods, what a key may do.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prsm.node.rpc.errors import CallError, Unauthorised
from prsm.node.rpc.signatures import Claim, Nonces, Request, digest_of, is_signed, read_claim
from prsm.node.web.answers import answer_refusal
from prsm.node.web.auth import Gate, KeyPeer
from prsm.node.web.bodies import read_body
from prsm.protocol.ed25519 import Ed25519Verifier


class SignedRequests:
    """ASGI middleware for `http` and `websocket`.

    Args:
        app: what is behind it.
        gate: bad signatures cost there what bad tokens cost.
        body_deadline_s: a signed request's body must be complete by then.
    """

    def __init__(self, app: ASGIApp, *, gate: Gate, body_deadline_s: float) -> None:
        self._app = app
        self._gate = gate
        self._body_deadline_s = body_deadline_s
        self._nonces = Nonces(gate.now_s())
        self._verifier = Ed25519Verifier()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its signer, or refuse it."""
        headers = Headers(scope=scope)
        if "signature" not in headers and "signature-input" not in headers:
            await self._app(scope, receive, send)
            return
        try:
            body = b""
            if scope["type"] == "http":
                body = await read_body(headers, receive, deadline_s=self._body_deadline_s)
            scope["state"]["peer"] = KeyPeer((await self._check(scope, headers, body)).key_text)
        except CallError as fault:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await answer_refusal(scope, receive, send, fault)
            return
        await self._app(scope, _again(body, receive) if scope["type"] == "http" else receive, send)

    async def _check(self, scope: Scope, headers: Headers, body: bytes) -> Claim:
        claim = read_claim(headers.getlist("signature-input"), headers.getlist("signature"))
        if claim is None:
            raise Unauthorised(
                "the signature is not of the form this node reads",
                hint="sign as docs/spec/rpc.md, `Signed requests`, says",
            )
        if not self._gate.knows_key(claim.key_text):
            await self._gate.refuse(f"the key {claim.key_text[:18]}… has no rights here")
        digests = headers.getlist("content-digest")
        request = Request(
            verb=str(scope.get("method", "GET")),
            authority=headers.get("host", ""),
            path=scope["raw_path"].partition(b"?")[0].decode("latin-1"),
            query=scope["query_string"].decode("latin-1"),
            digest=digests[0] if len(digests) == 1 else "",
        )
        if request.digest != digest_of(body):
            await self._gate.refuse("the body is not the one that was signed")
        if not is_signed(request, claim, self._verifier):
            await self._gate.refuse("the signature is wrong")
        why = self._nonces.take(claim, self._gate.now_s())
        if why:
            raise Unauthorised(f"the request was {why}", hint="sign each request anew")
        return claim


def _again(body: bytes, receive: Receive) -> Receive:
    """What was read, once more; then what comes."""
    read: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return read.pop() if read else await receive()

    return replay
