"""Calls that come again: one that changes something and names a key is done once.

A caller that lost an answer sends the same call with the same key and gets the first answer, also
after a restart. Kept for a day for each tenant and token. Source: docs/spec/rpc.md, "Calls".

Knows: layers, the store of answers. Must not know: methods, transports.

Invariants: a key is durable before its call runs; of two calls with one key at a time one runs; a
call whose outcome is not known is never done again by its key. No secret is written down: not an
answer that is one, and of parameters, passwords among them, a digest under a key of this node.
"""

import functools
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import msgspec
import trio

from prsm.node.clock import Clock
from prsm.node.net.interface import Busy
from prsm.node.rpc.dispatch import Ask, Go
from prsm.node.rpc.errors import CallError, TooMany, only_leaf
from prsm.node.rpc.reasons import UNCLEAR, entry_for
from prsm.node.supervise import Supervisor
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, PrsmError
from prsm.storage.answers import CALLS_MAX, AnswerStore, KeptCall

KEPT_MS: Final = 24 * 3600 * 1000
_TIDY_S: Final = 600.0

log: Final = logs.get("once")


class KeyReused(CallError):
    """The key names a call that asked for something else."""

    reason = "key_reused"


class OutcomeUnknown(CallError):
    """The call ran before, and what came of it was not written down."""

    reason = "outcome_unknown"


class _Told(msgspec.Struct, omit_defaults=True):
    """What a call was told: a result, or a refusal."""

    result: msgspec.Raw = msgspec.Raw()
    refused: str = ""
    what: str = ""
    hint: str = ""
    field: str = ""


@dataclass(frozen=True, slots=True)
class _Running:
    digest: bytes
    over: trio.Event = field(default_factory=trio.Event)


class Once:
    """Does each keyed call once.

    Args:
        open_store: opens the store at the first keyed call.
        clock: of the node.
        secret: 32 bytes, the same after a restart; who reads the store has no test for guesses at
            what a call asked without them.
    """

    def __init__(
        self, open_store: Callable[[], Awaitable[AnswerStore]], clock: Clock, secret: bytes
    ) -> None:
        self._open_store = open_store
        self._clock = clock
        self._secret = secret
        self._store: AnswerStore | None = None
        self._opening = trio.Lock()
        self._has_ended = False  # what is opened then, nobody would close
        self._running: dict[bytes, _Running] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Forget what is older than a day, until cancelled; then the store is closed."""
        self._has_ended = False
        task_status.started()
        try:
            while True:
                await trio.sleep(_TIDY_S)
                await self._tidy()
        finally:
            with trio.CancelScope(shield=True):
                async with self._opening:  # begun again, it is opened again
                    store, self._store, self._has_ended = self._store, None, True
                    if store is not None:
                        await store.close()

    async def layer(self, ask: Ask, go: Go) -> object:
        """Pass a call on, once for each key.

        Raises:
            KeyReused: the key names a call that asked for something else.
            OutcomeUnknown: the first one ended without an answer.
            Busy: the node stops.
            PrsmError: what the first one was told.
        """
        if not ask.key:
            return await go(ask)
        name, digest = _name(ask), self._digest(ask)
        while (running := self._running.get(name)) is not None:
            _refuse_other(ask, running.digest, digest)
            await running.over.wait()
        running = self._running[name] = _Running(digest)
        try:
            return await self._do(ask, go, name, digest)
        finally:
            del self._running[name]
            running.over.set()

    async def _do(self, ask: Ask, go: Go, name: bytes, digest: bytes) -> object:
        store = await self._opened()
        if store.is_full:
            await self._tidy()
        if store.is_full:
            raise TooMany(f"{CALLS_MAX} calls with a key in a day", retry_after_ms=60_000)
        now_ms = self._clock.wall_ms()
        kept = await store.begin(name, digest, now_ms=now_ms)
        if kept is not None:
            _refuse_other(ask, kept.digest, digest)
            return _again(ask, kept)
        try:
            result = await go(ask)
        except Exception as error:
            if not ask.trail.is_answered:  # else it took effect, whoever refused then
                with trio.CancelScope(shield=True):  # bounded: one write
                    await _note_refusal(store, name, only_leaf(error))
            raise
        told = None
        if not ask.method.tells_secret:
            told = msgspec.json.encode(_Told(result=msgspec.Raw(msgspec.json.encode(result))))
        with trio.CancelScope(shield=True):  # as above
            await _finish(store, name, told)
        return result

    def _digest(self, ask: Ask) -> bytes:
        asked = msgspec.json.encode((ask.method.name, ask.params))
        return hmac.digest(self._secret, asked, "sha256")

    async def _opened(self) -> AnswerStore:
        async with self._opening:
            if self._has_ended:
                raise Busy(
                    "this node stops, or begins to take calls with a key again", retry_after_ms=1000
                )
            if self._store is None:
                self._store = await self._open_store()
                await self._tidy()
            return self._store

    async def _tidy(self) -> None:
        if self._store is not None:
            try:
                await self._store.forget_before(self._clock.wall_ms() - KEPT_MS)
            except LocalError as error:
                log.warning("old answers stay", why=error.what)


async def _note_refusal(store: AnswerStore, name: bytes, error: Exception) -> None:
    """Keep what a call was refused with; one that may be tried again is as if it never came."""
    if not isinstance(error, PrsmError) or error.reason in UNCLEAR:
        return
    try:
        if entry_for(error.reason).retryable:
            await store.forget(name)
            return
        place = error.field if isinstance(error, CallError) else ""
        told = _Told(refused=error.reason, what=error.what, hint=error.hint, field=place)
        await store.finish(name, msgspec.json.encode(told))
    except LocalError as failed:
        log.warning("a refusal is not kept", why=failed.what)


async def _finish(store: AnswerStore, name: bytes, told: bytes | None) -> None:
    try:
        await store.finish(name, told)
    except LocalError as error:  # the caller gets its answer; a second one will not
        log.warning("an answer is not kept", why=error.what)


def _name(ask: Ask) -> bytes:
    owner = msgspec.json.encode((ask.caller.tenant, ask.caller.token_id, ask.key))
    return hashlib.sha256(owner).digest()


def _refuse_other(ask: Ask, known: bytes, digest: bytes) -> None:
    if known != digest:
        raise KeyReused(
            f"the key {ask.key!r} names a call that asked for something else",
            hint="give each call its own key, such as a UUID",
            field="idempotency_key",
        )


def _again(ask: Ask, kept: KeptCall) -> object:
    if kept.answer is None:
        state = "it was cut off"
        if kept.is_over:
            is_secret = ask.method.tells_secret
            state = "its answer is told once" if is_secret else "its answer was too large to keep"
        raise OutcomeUnknown(
            f"{ask.method.name} ran before with the key {ask.key!r}; {state}",
            hint="look whether it took effect, then call again with another key",
        )
    told = msgspec.json.decode(kept.answer, type=_Told)
    if not told.refused:
        return told.result
    shape = type("ToldAgain", (CallError,), {"reason": told.refused})
    raise cast("type[CallError]", shape)(told.what, hint=told.hint, field=told.field)


async def open_once(nursery: trio.Nursery, path: Path, clock: Clock, seed: bytes) -> Once:
    """Begin to keep answers in a file, which is opened when a call first names a key.

    Args:
        nursery: keeps it.
        path: of the file.
        clock: of the node.
        seed: secret bytes of the node, for digests.
    """
    secret = hmac.digest(seed, b"prsm/answers/1", "sha256")
    once = Once(functools.partial(AnswerStore.open, path), clock, secret)
    await nursery.start(Supervisor("once").run, once.run)
    return once
