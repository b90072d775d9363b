"""The keys of a backup: whose they are, and whether the secret ones sign for their public ones.

A development network keeps its password beside its keys, made by the machine and known to
nobody; so a backup, which has a password of its own, carries it, and opens its keys by itself.

Knows: key files. Must not know: the sealed format.
"""

from dataclasses import dataclass
from pathlib import Path

from prsm.node.home import Home
from prsm.node.keys import OPERATOR, WALLET
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.ids import address_text
from prsm.protocol.signing import message_statement
from prsm.storage.backup import BadBackup
from prsm.storage.errors import WrongPassword
from prsm.storage.keystore import load_key, read_key_file


@dataclass(frozen=True, slots=True)
class Secrets:
    """Passwords the keys may open with.

    Attributes:
        given: by the person, for every key; None if nothing was typed.
        kept: that of the backup itself; None if it carries none.
    """

    given: str | None
    kept: str | None


@dataclass(frozen=True, slots=True)
class Checked:
    """Public keys by file, and the files that stayed closed."""

    public: dict[str, str]
    closed: tuple[str, ...]


def check_keys(staged: Home, secrets: Secrets, *, development: bool) -> Checked:
    """Read the public keys, and open what the passwords open.

    Raises:
        WrongPassword: the given one does not open a key.
        BadBackup: a secret key does not belong to its public one.
    """
    paths = [(path, WALLET) for path in sorted(staged.wallets.glob("*.key"))]
    if staged.operator_key.exists():
        paths.append((staged.operator_key, OPERATOR))
    public, closed = dict[str, str](), list[str]()
    for path, purpose in paths:
        name, key = str(path.relative_to(staged.keys)), read_key_file(path).public
        public[name] = address_text(key)
        seed = _opened(path, purpose, secrets, development=development)
        if seed is None:
            closed.append(name)
        elif not _signs(Ed25519Signer(seed), key):
            raise BadBackup(f"{path.name} holds another key than it says")
    return Checked(public, tuple(closed))


def _opened(path: Path, purpose: str, secrets: Secrets, *, development: bool) -> bytes | None:
    """The seed of a key; None if no password is at hand, or the kept one is of other keys."""
    password = secrets.kept if secrets.given is None else secrets.given
    if password is None:
        return None
    try:
        return load_key(path, password=password, purpose=purpose, development=development)
    except WrongPassword:
        if secrets.given is not None:
            raise
        return None


def _signs(signer: Ed25519Signer, public: bytes) -> bool:
    """Does a signature it makes hold under the public key of its file?"""
    statement = message_statement(public, b"restore --verify")
    return Ed25519Verifier().verify(public, statement, signer.sign(statement))
