"""Where a node answers, and what a client shows to be let in.

A secret goes to this machine in clear text, elsewhere by TLS only; the cookie never leaves it.

Knows: endpoint, cookie and token files, addresses. Must not know: calls.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from prsm.node.home import Home
from prsm.node.rpc.errors import NodeUnreachable
from prsm.protocol.errors import LocalError

if TYPE_CHECKING:
    from ssl import SSLContext  # a client of this machine loads no TLS

_HTTPS: Final = "https://"
_TOKEN_BYTES_MAX: Final = 8_192


class BadCredentials(LocalError):
    """A file of a token, certificate or key that cannot be used."""

    reason = "bad_credentials"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client shows instead of the cookie, and whom it trusts; all may be absent.

    Attributes:
        token: of `prsm token new`.
        sign_key: file of a raw Ed25519 seed; requests are signed with it.
        ca: PEM file of who vouches for the node's certificate, instead of the system's list.
    """

    token: str = field(default="", repr=False)
    sign_key: Path | None = None
    ca: Path | None = None


def read_credentials(
    environ: Mapping[str, str], *, token_file: str = "", sign_key: str = "", ca_file: str = ""
) -> Credentials:
    """What was given: a file named on the command line, else the environment.

    Args:
        environ: PRSM_TOKEN, PRSM_TOKEN_FILE, PRSM_SIGN_KEY, PRSM_CA_FILE.
        token_file: mode 0600, the token in its first line.
        sign_key: mode 0600, 32 raw bytes.
        ca_file: PEM.

    Raises:
        BadCredentials: the token's file cannot be read, or others may read it.
    """
    named = token_file or ("" if environ.get("PRSM_TOKEN") else environ.get("PRSM_TOKEN_FILE", ""))
    key, ca = sign_key or environ.get("PRSM_SIGN_KEY"), ca_file or environ.get("PRSM_CA_FILE")
    return Credentials(
        token=read_token(Path(named).expanduser()) if named else environ.get("PRSM_TOKEN", ""),
        sign_key=Path(key).expanduser() if key else None,
        ca=Path(ca).expanduser() if ca else None,
    )


@dataclass(frozen=True, slots=True)
class Target:
    """Where a node answers: a unix socket or host and port, and where its cookie lies."""

    socket_path: Path | None
    address: tuple[str, int] | None
    cookie: Path | None
    is_tls: bool = False
    shown: Credentials = Credentials()

    @property
    def text(self) -> str:
        """The place, for people."""
        if self.socket_path is not None:
            return f"unix:{self.socket_path}"
        assert self.address is not None
        return f"{_HTTPS if self.is_tls else 'http://'}{self.host}"

    @property
    def host(self) -> str:
        """The Host header."""
        if self.address is None:
            return "localhost"
        name, port = self.address
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    def token(self) -> str:
        """What to send as bearer: the token given, else the cookie as it is now; or nothing."""
        if self.shown.token or self.shown.sign_key is not None or self.cookie is None:
            return self.shown.token
        try:
            return self.cookie.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""  # the node says what is missing

    def proof(self, verb: str, path: str, body: bytes) -> dict[str, str]:
        """The headers that say who asks: a bearer, or the signature of this one request.

        Raises:
            BadCredentials: the key cannot be read, or others may read it.
        """
        if self.shown.sign_key is None or self.shown.token:
            token = self.token()
            return {"Authorization": f"Bearer {token}"} if token else {}
        from secrets import token_bytes  # noqa: PLC0415 - few clients sign

        from prsm.node.rpc import signatures  # noqa: PLC0415 - few clients sign
        from prsm.protocol.ed25519 import Ed25519Signer  # noqa: PLC0415 - few clients sign
        from prsm.storage.keystore import load_seed  # noqa: PLC0415 - few clients sign

        try:
            signer = Ed25519Signer(load_seed(self.shown.sign_key))
        except LocalError as error:
            raise BadCredentials(error.what, hint=error.hint) from error
        plain, _, query = path.partition("?")
        request = signatures.Request(verb, self.host, plain, query, signatures.digest_of(body))
        now_s, nonce = time.time_ns() // 10**9, token_bytes(signatures.NONCE_BYTES)
        return signatures.sign(request, signer, created_s=now_s, nonce=nonce)

    def context(self) -> "SSLContext | None":
        """How TLS is spoken with the node; None where it is not.

        Raises:
            BadCredentials: the file of whom to trust cannot be read.
        """
        if not self.is_tls:
            return None
        import ssl  # noqa: PLC0415 - a client of this machine needs none

        try:
            made = ssl.create_default_context(cafile=self.shown.ca)
        except (OSError, ssl.SSLError) as error:
            raise BadCredentials(
                f"{self.shown.ca} cannot be used: {error}", hint="name a PEM file with --ca-file"
            ) from error
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        return made


class Endpoint(msgspec.Struct, frozen=True):
    """`run/endpoint.json`: where the running node answers."""

    pid: int
    http: str
    unix: str = ""


def find(home: Home, *, node: str = "", shown: Credentials | None = None) -> Target:
    """Where to ask: `node` if given, else what the home's running node wrote down.

    Args:
        home: whose cookie is sent, and whose endpoint is read.
        node: `http://127.0.0.1:PORT`, `127.0.0.1:PORT`, `https://HOST:PORT` or `unix:PATH`.
        shown: what to show instead of the cookie.

    Raises:
        NodeUnreachable: nothing runs in that home, or `node` would get a secret in clear text.
        HomeMissing: no node was ever made there.
    """
    given = shown or Credentials()
    if node.startswith("unix:"):
        return Target(Path(node.removeprefix("unix:")), None, home.cookie, shown=given)
    if node:
        return _target(node, home, given)
    home.check()
    try:
        endpoint = msgspec.json.decode(home.endpoint.read_bytes(), type=Endpoint)
    except (OSError, msgspec.MsgspecError) as error:
        raise NodeUnreachable(
            f"no node runs in {home.root}", hint="start it with `prsm start`"
        ) from error
    if endpoint.unix:
        return Target(Path(endpoint.unix), None, home.cookie, shown=given)
    return _target(endpoint.http, home, given)


def _target(node: str, home: Home, shown: Credentials) -> Target:
    is_tls = node.startswith(_HTTPS)
    place = node.removeprefix(_HTTPS).removeprefix("http://").rstrip("/")
    host, _, port = place.rpartition(":")
    if is_tls and not port.isdecimal():
        host, port = place, "443"
    is_here = _is_here(host)
    is_port = port.isdecimal() and len(port) <= 5 and int(port) <= 65535
    if not (is_here or (is_tls and host)) or not is_port:
        raise NodeUnreachable(
            f"{node[:100]!r} is no address of this machine; the token would travel in clear text",
            hint="write http://127.0.0.1:8480, unix:PATH or https://HOST:PORT; or use ssh -L",
        )
    cookie = home.cookie if is_here else None
    return Target(None, (host.strip("[]"), int(port)), cookie, is_tls=is_tls, shown=shown)


def _is_here(host: str) -> bool:
    """Whether a host is this machine, whatever a resolver says: a name may begin with `127.`."""
    if host == "localhost":
        return True
    from ipaddress import ip_address  # noqa: PLC0415 - clients of a home's own node ask none

    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """The first line of a file only its owner may read.

    Raises:
        BadCredentials: others may read it, or there is no such line.
    """
    try:
        mode = path.stat().st_mode & 0o777
        with path.open("rb") as file:
            raw = file.read(_TOKEN_BYTES_MAX)
        text = raw.decode("ascii").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadCredentials(
            f"{path} cannot be read as a token: {error}", hint="prsm token new NAME --out FILE"
        ) from error
    if mode & 0o077:
        raise BadCredentials(f"{path} has mode {mode:04o}, at most 0600", hint=f"chmod 600 {path}")
    if not text:
        raise BadCredentials(f"{path} holds no token", hint="prsm token new NAME --out FILE")
    return text
