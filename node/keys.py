"""The keys of a home, made once: node, consensus, operator, wallet; and what others may know.

Node and consensus seeds lie plain (0600), since a validator restarts unattended; operator and
wallet are encrypted under a password. Knows: files. Must not know: networks.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from prsm.node.home import Home
from prsm.protocol.ed25519 import SEED_BYTES, Ed25519Signer
from prsm.protocol.identity import peer_id_of
from prsm.protocol.ids import PeerId, PublicKey
from prsm.protocol.validators import Validator
from prsm.storage.keystore import Cost, KeyFile, load_seed, read_key_file, save_key, save_seed

WALLET: Final = "wallet"  # purposes of encrypted key files
OPERATOR: Final = "operator"
DEFAULT: Final = "default"  # name of the node's own payment key


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


def make_keys(home: Home, *, password: str, development: bool) -> PublicKeys:
    """Make all keys of a fresh home.

    Args:
        home: its folders exist.
        password: of operator and wallet key.
        development: whether the network is one where the cheap key cost is allowed.

    Raises:
        Conflict: a key exists already; nothing is overwritten.
        LocalError: an empty password.
    """
    cost = Cost.DEVELOPMENT if development else Cost.NORMAL
    for path, purpose in (
        (home.operator_key, OPERATOR),
        (home.wallet_key(DEFAULT), WALLET),
    ):
        seed = secrets.token_bytes(SEED_BYTES)
        key_file = KeyFile(purpose, Ed25519Signer(seed).public_key, cost)
        save_key(path, seed, password=password, key_file=key_file)
    for path in (home.node_key, home.consensus_key):
        save_seed(path, secrets.token_bytes(SEED_BYTES))
    return read_public_keys(home)


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
