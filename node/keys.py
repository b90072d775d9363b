"""The keys of a home, made once: node, consensus, operator, wallet; and what others may know.

Also the key of a private network, which all its nodes share. Node and consensus seeds lie plain
(0600), since a validator restarts unattended; operator and wallet are encrypted under a password.
Knows: files. Must not know: networks.
"""

import logging
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prsm.node.home import Home
from prsm.protocol.ed25519 import SEED_BYTES, Ed25519Signer
from prsm.protocol.errors import LocalError
from prsm.protocol.identity import peer_id_of
from prsm.protocol.ids import PeerId, PublicKey
from prsm.protocol.validators import Validator
from prsm.storage.errors import Conflict, ExposedKey
from prsm.storage.keystore import (
    Cost,
    KeyFile,
    load_seed,
    open_key,
    read_key_file,
    save_key,
    save_seed,
)

log = logging.getLogger(__name__)

WALLET: Final = "wallet"  # purposes of encrypted key files
OPERATOR: Final = "operator"
DEFAULT: Final = "default"  # name of the node's own payment key
NETWORK_KEY_BYTES: Final = 32
_NETWORK_KEY_HEAD: Final = "/key/swarm/psk/1.0.0/\n/base16/\n"
_NETWORK_KEY_FILE_MAX: Final = 256


class BadKey(LocalError):
    """What is to be a key is none."""

    reason = "bad_key"


class BadNetworkKey(LocalError):
    """A file that holds no key of a private network."""

    reason = "bad_network_key"


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """What others may know of a node."""

    peer_id: PeerId
    consensus: PublicKey
    operator: PublicKey
    wallet: PublicKey

    def validator(self, stake: int) -> Validator:
        """The node as a member of a genesis, with a stake in micro-FTNS."""
        return Validator(
            operator=self.operator, consensus=self.consensus, peer_id=self.peer_id, stake=stake
        )


def make_keys(
    home: Home, *, password: str, development: bool, payment: bytes | None = None
) -> PublicKeys:
    """Make all keys of a fresh home.

    Args:
        home: its folders exist.
        password: of operator and wallet key.
        development: whether the network is one where the cheap key cost is allowed.
        payment: seed of a payment key that was made elsewhere; it is never kept at the cheap cost.

    Raises:
        Conflict: a key exists already; nothing is overwritten.
        LocalError: an empty password.
    """
    cheap = Cost.DEVELOPMENT if development else Cost.NORMAL
    for path, purpose, given, cost in (
        (home.operator_key, OPERATOR, None, cheap),
        (home.wallet_key(DEFAULT), WALLET, payment, Cost.NORMAL if payment else cheap),
    ):
        seed = given or secrets.token_bytes(SEED_BYTES)
        key_file = KeyFile(purpose, Ed25519Signer(seed).public_key, cost)
        save_key(path, seed, password=password, key_file=key_file)
    for path in (home.node_key, home.consensus_key):
        save_seed(path, secrets.token_bytes(SEED_BYTES))
    return read_public_keys(home)


def read_exported(raw: bytes, *, password: str, development: bool = False) -> bytes:
    """The seed of a payment key as `prsm wallet export` writes it.

    Args:
        raw: the key file.
        password: of the file.
        development: whether a file of cheap cost is taken.

    Raises:
        BadKey: it names another public key than its secret has.
        WrongPassword, Corrupt, LocalError: as for `load_key`.
    """
    where = "the key file"
    key_file, seed = open_key(
        raw, password=password, purpose=WALLET, development=development, where=where
    )
    if Ed25519Signer(seed).public_key != key_file.public:
        raise BadKey("the key file names another public key than its secret has")
    return seed


def parse_seed(text: str) -> bytes:
    """The seed of a secret key in hex.

    Raises:
        BadKey: anything but 0x and 64 hex digits.
    """
    if re.fullmatch(r"0x[0-9a-fA-F]{64}", text) is None:
        raise BadKey(
            "no secret key: 0x and 64 hex digits are one",
            hint="or give the file that prsm wallet export wrote",
        )
    return bytes.fromhex(text[2:])


def read_public_keys(home: Home) -> PublicKeys:
    """The public side of a home's keys; no password needed.

    Raises:
        NotFound, ExposedKey, Corrupt: a key file is missing, open to others, or damaged.
    """
    return PublicKeys(
        peer_id=peer_id_of(Ed25519Signer(load_seed(home.node_key)).public_key),
        consensus=Ed25519Signer(load_seed(home.consensus_key)).public_key,
        operator=PublicKey(read_key_file(home.operator_key).public),
        wallet=PublicKey(read_key_file(home.wallet_key(DEFAULT)).public),
    )


def parse_network_key(text: str) -> bytes:
    """Read the text of a key file, the form go-libp2p and Kubo write (`swarm.key`).

    Raises:
        BadNetworkKey: anything else.
    """
    match = re.fullmatch(re.escape(_NETWORK_KEY_HEAD) + r"([0-9a-fA-F]{64})\s*", text)
    if match is None:
        raise BadNetworkKey(
            "no key of a private network",
            hint="copy the file of a node of that network, or make one: prsm net new-key FILE",
        )
    return bytes.fromhex(match[1])


def network_key_text(key: bytes) -> str:
    """Write a key of 32 bytes as `parse_network_key` reads it."""
    assert len(key) == NETWORK_KEY_BYTES
    return f"{_NETWORK_KEY_HEAD}{key.hex()}\n"


def load_network_key(path: Path) -> bytes:
    """Read the key file of a private network.

    Raises:
        BadNetworkKey: it is absent, or holds something else.
        ExposedKey: others may read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            raw = file.read(_NETWORK_KEY_FILE_MAX + 1)
    except OSError as error:
        raise BadNetworkKey(
            f"net.psk_file: {path} cannot be read: {error.strerror}",
            hint="copy the file of a node of that network, or make one: prsm net new-key FILE",
        ) from error
    if mode & 0o077:
        raise ExposedKey(f"{path} has mode {mode:04o}, at most 0600", hint=f"chmod 600 {path}")
    try:
        return parse_network_key(raw.decode("ascii", errors="replace"))
    except BadNetworkKey as error:
        raise BadNetworkKey(f"net.psk_file: {path} holds {error.what}", hint=error.hint) from None


def make_network_key(path: Path) -> None:
    """Write a new key of a private network, mode 0600.

    Raises:
        Conflict: the file exists: a key is never overwritten.
        LocalError: it cannot be written there.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise Conflict(
            f"{path} exists: a key is never overwritten", hint="choose another name"
        ) from error
    except OSError as error:
        raise LocalError(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(network_key_text(secrets.token_bytes(NETWORK_KEY_BYTES)))
        file.flush()
        os.fsync(fd)


def voting_seeds(home: Home, *, is_voting: bool) -> tuple[bytes, ...]:
    """The keys that vote; none for a follower, also for a restored validator without its key."""
    if not is_voting:
        return ()
    paths = home.consensus_keys
    if not paths:
        log.warning("no consensus key: this node follows; %s is missing", home.consensus_key.name)
    return tuple(load_seed(path) for path in paths)
