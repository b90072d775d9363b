"""Tokens of clients: what each may do, until when, and which were taken back.

A token is a JWT (HS256, `keys/rpc.jwt`) that names a record of `data/tokens.json`; the record
governs. So a token whose record is gone, ended or taken back is worth nothing, whatever it says.
A record may name a public key instead: requests signed with it have the record's rights.

Invariants: what is on disk is never behind what callers were told; at most `TOKENS_MAX` records.

Knows: JWT, the two files, scopes as plain words. Must not know: HTTP, methods, who pays.
Source: RFC 7519; docs/spec/rpc.md, "Tokens".
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import jwt
import msgspec
import trio

from prsm.node.callers.tokenkeys import (
    KEYS_MAX,
    Key,
    TokensDamaged,
    mend,
    new_key,
    read_keys,
    write_keys,
)
from prsm.node.clock import Clock
from prsm.node.home import write_private
from prsm.node.rpc.errors import BadParams
from prsm.protocol.errors import LocalError
from prsm.protocol.jsontext import UNREADABLE

TOKENS_MAX: Final = 1_000
TOKEN_CHARS_MAX: Final = 4_096
KEPT_MS: Final = 30 * 86_400_000  # how long an ended record is still listed
_ASK: Final = "prsm token new NAME"
_ISSUER: Final = "prsm"
_KNOWN_MAX: Final = 1_024
_PASSING_MAX: Final = 16  # tokens of one maker that are in memory alone; the oldest go

# Named sets of scopes; words of node/rpc/spec.Scope.
ROLES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "admin": ("read", "write", "sign", "admin"),
        "operator": ("read", "write", "admin"),  # runs the node, spends nothing
        "user": ("read", "write", "sign"),  # works and pays, changes nothing of the node
        "observer": ("read",),
    }
)


class TokenUnknown(LocalError):
    """No token of that id, or several begin so."""

    reason = "token_not_found"


class TooManyTokens(LocalError):
    """Every place is taken by a token that still lives."""

    reason = "token_limit"


class BadToken(LocalError):
    """A token that is none of ours, has ended or was taken back."""

    reason = "unauthorised"


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What a token may do. Times in ms since 1970, amounts in micro-FTNS; None: without end.

    Attributes:
        key_id: the signing key it was made with; "" for one of a public key.
        made_by: the token its maker came with, which ends it with itself; "" for the operator.
        public_key: `0x…` of requests signed instead of carrying a secret; else "".
        is_kept: on disk; else it ends with the process.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    created_ms: int
    role: str = ""
    tenant: str = ""
    methods: tuple[str, ...] = ()
    spend_limit: int | None = None
    daily_cap: int | None = None
    expires_ms: int | None = None
    revoked_ms: int | None = None
    key_id: str = ""
    made_by: str = ""
    public_key: str = ""
    is_kept: bool = True


class Limits(NamedTuple):
    """What a token may spend, in micro-FTNS: in all, and in a day; None: anything."""

    spend_limit: int | None = None
    daily_cap: int | None = None


class _File(msgspec.Struct, frozen=True):
    tokens: tuple[Token, ...]
    version: int = 1


class Tokens:
    """The tokens of one node; used by the event loop's thread only.

    Attributes:
        on_revoked: told the id of each token taken back.
    """

    def __init__(self, key_path: Path, path: Path, clock: Clock, keys: Iterable[Key]) -> None:
        self.on_revoked: list[Callable[[str], None]] = []
        self._key_path, self._path, self._clock = key_path, path, clock
        self._keys = {key.id: key for key in keys}
        self._tokens: dict[str, Token] = {}
        self._known: dict[bytes, str] = {}
        self._writing = trio.Lock()

    @classmethod
    def open(cls, key_path: Path, path: Path, clock: Clock) -> "Tokens":
        """Read both files; the key is made if there is none.

        Args:
            key_path: `keys/rpc.jwt`.
            path: `data/tokens.json`.
            clock: decides what has ended.

        Raises:
            TokensDamaged: a file is there and cannot be read.
        """
        tokens = cls(key_path, path, clock, read_keys(key_path))
        if not tokens._keys:
            key = new_key()
            write_keys(key_path, {key.id: key})
            tokens._keys = {key.id: key}
        tokens._tokens = {token.id: token for token in read_tokens(path)}
        return tokens

    def now_ms(self) -> int:
        """The clock by which tokens end, in ms since 1970."""
        return self._clock.wall_ms()

    def has_key(self, public_key: str) -> bool:
        """Whether a live record names that key, `0x…`."""
        rows = self._tokens.values()
        return any(one.public_key == public_key and not self.why_dead(one) for one in rows)

    def find(self, token_id: str) -> Token | None:
        """The record of an id, live or not."""
        return self._tokens.get(token_id)

    def limits(self, token_id: str) -> Limits:
        """What it may spend; the node's operator, who comes without a token, anything."""
        token = self._tokens.get(token_id)
        return Limits(token.spend_limit, token.daily_cap) if token is not None else Limits()

    def is_live(self, token_id: str) -> bool:
        """Whether it may come in now."""
        token = self._tokens.get(token_id)
        return token is not None and not self.why_dead(token)

    def why_dead(self, token: Token) -> str:
        """Empty while the token is good, else one word: revoked, expired or rotated."""
        now = self._clock.wall_ms()
        if token.revoked_ms is not None:
            return "revoked"
        if token.expires_ms is not None and token.expires_ms <= now:
            return "expired"
        if token.key_id and self._key(token.key_id) is None:
            return "rotated"
        return ""

    def listed(self, tenant: str = "") -> list[Token]:
        """Records of a tenant, of all if it is "", oldest first."""
        found = [one for one in self._tokens.values() if not tenant or one.tenant == tenant]
        return sorted(found, key=lambda one: (one.created_ms, one.id))

    def resolve(self, prefix: str, tenant: str = "") -> Token:
        """The one record whose id begins so.

        Raises:
            TokenUnknown: none does, or several do.
        """
        found = [one for one in self.listed(tenant) if one.id.startswith(prefix)]
        if len(found) != 1:
            what = "no token" if not found else f"{len(found)} tokens"
            raise TokenUnknown(f"{what} with the id {prefix!r}", hint="prsm token ls")
        return found[0]

    def verify(self, text: str) -> Token:
        """The record of a token that is good now; a repeated one costs a look-up.

        Raises:
            BadToken: forged, ended or taken back.
        """
        digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        token_id = self._known.get(digest)
        if token_id is None:
            token_id = self._decode(text)
            while len(self._known) >= _KNOWN_MAX:
                del self._known[next(iter(self._known))]
            self._known[digest] = token_id
        return self._live(self._tokens.get(token_id))

    def of_key(self, public_key: str) -> Token:
        """The live record of a public key.

        Raises:
            BadToken: nobody gave that key any rights, or they ended.
        """
        found = [one for one in self._tokens.values() if one.public_key == public_key]
        live = [one for one in found if not self.why_dead(one)]
        return self._live(live[-1] if live else (found[-1] if found else None))

    async def add(self, token: Token) -> tuple[Token, str]:
        """Keep a record with a new id, and write its token.

        Args:
            token: `id`, `key_id` and `created_ms` are given here; one with a public key has no
                text. `is_kept=False` keeps it in memory alone.

        Returns:
            The record as kept, and the token's text, shown this once.

        Raises:
            BadToken: the one it is made with has ended.
            BadParams, TooManyTokens: its public key has a live record; `TOKENS_MAX` are live.
            OSError: the disk refused; nothing was made.
        """
        async with self._writing:
            if token.made_by:  # a call may outlast its token; what it makes must not
                self._live(self._tokens.get(token.made_by))
            if (own := token.public_key) and self.has_key(own):
                raise BadParams(f"{own} has a live token", hint="prsm token ls", field="public_key")
            now, key = self._clock.wall_ms(), self._current()
            made = msgspec.structs.replace(
                token,
                id=f"tk-{secrets.token_hex(6)}",
                key_id="" if token.public_key else key.id,
                created_ms=now,
            )
            after = self._pruned(now)
            if not made.is_kept:
                passing = [o for o in after.values() if not o.is_kept and o.made_by == made.made_by]
                for one in passing[: 1 - _PASSING_MAX]:
                    del after[one.id]
            if len(after) >= TOKENS_MAX:
                raise TooManyTokens(
                    f"{len(after)} tokens are live, at most {TOKENS_MAX}",
                    hint="take some back: prsm token ls, prsm token revoke ID",
                )
            after[made.id] = made
            await self._save(after, write=made.is_kept)
            return made, "" if token.public_key else _encode(made, key)

    async def revoke(self, token_id: str) -> tuple[str, ...]:
        """Take a token back, and all that were made with it; their ids, its own first.

        Raises:
            OSError: the disk refused; nothing was taken back.
        """
        async with self._writing:
            gone, now = self._family(token_id), self._clock.wall_ms()
            live = [self._tokens[one] for one in gone if self._tokens[one].revoked_ms is None]
            ended = {one.id: msgspec.structs.replace(one, revoked_ms=now) for one in live}
            after = {**self._tokens, **ended}
            await self._save(after, write=any(after[one].is_kept for one in gone))
        for one in gone:
            for tell in self.on_revoked:
                tell(one)
        return gone

    async def rotate_key(self, grace_ms: int) -> str:
        """Sign with a new key from now on; tokens of older keys end after `grace_ms`.

        Returns:
            The id of the new key.

        Raises:
            OSError: the disk refused; the old key stays.
        """
        async with self._writing:
            new, now = new_key(), self._clock.wall_ms()
            until = now + grace_ms
            old = [
                Key(key.id, key.secret, until if key.until_ms is None else min(key.until_ms, until))
                for key in self._keys.values()
            ]
            kept = [key for key in old if key.until_ms is not None and key.until_ms > now]
            keys = {key.id: key for key in (*kept[-(KEYS_MAX - 1) :], new)}
            await trio.to_thread.run_sync(write_keys, self._key_path, keys)
            self._keys = keys
            return new.id

    def _live(self, token: Token | None) -> Token:
        why = "unknown" if token is None else self.why_dead(token)
        if token is None or why:
            raise BadToken(
                f"the token is {why}", hint="ask the node's operator for one: prsm token new NAME"
            )
        return token

    def _decode(self, text: str) -> str:
        try:
            if len(text) > TOKEN_CHARS_MAX:
                raise BadToken(f"a token of {len(text)} characters, at most {TOKEN_CHARS_MAX}")
            key = self._key(str(jwt.get_unverified_header(text).get("kid", "")))
            if key is None:
                raise BadToken("the token is not signed by this node", hint=_ASK)
            # Its end is that of the record, by the node's clock.
            claims = jwt.decode(
                text,
                key.secret,
                algorithms=["HS256"],
                issuer=_ISSUER,
                options={"require": ["jti", "iss"], "verify_exp": False, "verify_iat": False},
            )
        except (jwt.PyJWTError, UnicodeError, RecursionError) as error:
            raise BadToken("the token is not one of this node", hint=_ASK) from error
        return str(claims["jti"])

    def _key(self, key_id: str) -> Key | None:
        key = self._keys.get(key_id)
        if key is None or key.until_ms is None:
            return key
        return key if key.until_ms > self._clock.wall_ms() else None

    def _current(self) -> Key:
        return next(key for key in self._keys.values() if key.until_ms is None)

    def _family(self, token_id: str) -> tuple[str, ...]:
        """An id, those made with it, those made with them."""
        found = [token_id]
        for parent in found:  # grows while it is walked; ids are never twice
            found += [one.id for one in self._tokens.values() if one.made_by == parent]
        return tuple(found)

    def _pruned(self, now: int) -> dict[str, Token]:
        """Without records that ended long ago; with places short, without any that ended."""
        kept = {one.id: one for one in self._tokens.values() if now - self._ended(one) < KEPT_MS}
        if len(kept) < TOKENS_MAX:
            return kept
        live = {one.id: one for one in kept.values() if not self.why_dead(one)}
        for name in tuple(live):
            while (maker := live[name].made_by) and maker not in live:  # the one above ends it
                above = self._tokens[maker].made_by if maker in self._tokens else ""
                live[name] = msgspec.structs.replace(live[name], made_by=above)
        return live

    def _ended(self, token: Token) -> int:
        """When it ended; now if it has not."""
        ends = [one for one in (token.revoked_ms, token.expires_ms) if one is not None]
        return min([*ends, self._clock.wall_ms()])

    async def _save(self, after: dict[str, Token], *, write: bool) -> None:
        if write:
            raw = msgspec.json.encode(_File(tuple(one for one in after.values() if one.is_kept)))
            await trio.to_thread.run_sync(write_private, self._path, raw)
        self._tokens = after


def _encode(token: Token, key: Key) -> str:
    claims: dict[str, object] = {
        "iss": _ISSUER,
        "jti": token.id,
        "sub": token.name,
        "scope": " ".join(token.scopes),
        "iat": token.created_ms // 1000,
    }
    if token.expires_ms is not None:
        claims["exp"] = token.expires_ms // 1000
    return jwt.encode(claims, key.secret, algorithm="HS256", headers={"kid": key.id})


def read_tokens(path: Path) -> tuple[Token, ...]:
    """All records of a file; none if it is absent.

    Raises:
        TokensDamaged: it cannot be read.
    """
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return ()
    except (OSError, *UNREADABLE) as error:
        raise TokensDamaged(f"{path} cannot be read: {error}", hint=mend(path)) from error
    if file.version != 1:
        raise TokensDamaged(f"{path} has version {file.version}, not 1", hint=mend(path))
    return file.tokens
