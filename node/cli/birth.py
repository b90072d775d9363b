"""`prsm init`: everything a node needs before its first start.

Knows: folder, keys, genesis, configuration. Must not know: the command line.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prsm.node.cli.parts import parts
from prsm.node.config import load, to_toml
from prsm.node.home import Home, HomeExists, write_private
from prsm.node.keys import PublicKeys, make_keys
from prsm.protocol.genesis import (
    GENESIS_VERSION,
    Allocation,
    BadGenesis,
    Genesis,
    Parameters,
    from_json,
    to_json,
)
from prsm.protocol.ids import MICRO_PER_FTNS, PublicKey, address_text

STAKE: Final = 1_000 * MICRO_PER_FTNS
BALANCE: Final = 10_000 * MICRO_PER_FTNS
_PASSWORD: Final = "keys/password"  # noqa: S105 - of the folder, wherever that lies
_PASSWORD_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Birth:
    """What a new node is to be.

    Attributes:
        name: for people.
        profile: a named set of defaults.
        network: name of the new network; unused if `genesis` is given.
        genesis: file of the network to join; None makes one of this node alone.
        password: of the wallet; None lets a development network keep one in its folder.
        settings: more `section.key` values; None means unset.
        payment: seed of a payment key that was made elsewhere; None makes one.
    """

    name: str
    profile: str
    network: str
    genesis: Path | None
    password: str | None
    settings: Mapping[str, object]
    payment: bytes | None = None


def init_home(home: Home, birth: Birth) -> dict[str, object]:
    """Make the folder, keys, genesis and configuration; what the command answers.

    Args:
        home: where.
        birth: what it is to be.

    Raises:
        HomeExists: a node is there already, or files that it would overwrite.
        BadGenesis: the file to join is none.
        ConfigError: a setting is refused; nothing was made.
    """
    joined = _read_genesis(birth.genesis) if birth.genesis is not None else None
    keys = make_folder(home, birth, development=joined is None or joined.development)
    return finish_home(home, birth, keys, joined or new_network(birth.network, keys))


def make_folder(home: Home, birth: Birth, *, development: bool) -> PublicKeys:
    """Make the folder and its keys, which a genesis may name; `finish_home` does the rest.

    Raises:
        HomeExists, ConfigError: as `init_home`; nothing was made or changed.
    """
    _refuse_taken(home)
    load(None, flags=_flags(birth))
    home.create()
    password = birth.password
    if password is None:
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        write_private(home.root / _PASSWORD, password.encode() + b"\n")
    return make_keys(home, password=password, development=development, payment=birth.payment)


def _refuse_taken(home: Home) -> None:
    """Raise unless a node can be made without touching what lies there."""
    if home.version.exists():
        raise HomeExists(
            f"{home.root} already holds a node",
            hint="start it with `prsm start`, or choose another folder with --home DIR",
        )
    if taken := [path.name for path in parts(home)]:
        raise HomeExists(
            f"{home.root} holds {', '.join(taken)}, which a node would overwrite",
            hint="keys are money: move them to a safe place, or choose another folder with "
            "--home DIR",
        )


def finish_home(home: Home, birth: Birth, keys: PublicKeys, genesis: Genesis) -> dict[str, object]:
    """Write genesis and configuration beside the keys; what the command answers."""
    flags = _flags(birth)
    config = load(None, flags=flags).config
    write_private(home.genesis, to_json(genesis))
    write_private(home.config, to_toml(config, only=flags).encode())
    return {
        "home": str(home.root),
        "network": genesis.name,
        "chain_id": "0x" + genesis.chain_id.hex(),
        "development": genesis.development,
        "peer_id": keys.peer_id,
        "wallet": address_text(keys.wallet),
        "operator": address_text(keys.operator),
        "consensus": address_text(keys.consensus),
        "validator": any(v.consensus == keys.consensus for v in genesis.validators),
        "genesis": str(home.genesis),
        "config": str(home.config),
    }


def _flags(birth: Birth) -> dict[str, object]:
    flags: dict[str, object] = {"node.name": birth.name, "node.profile": birth.profile}
    flags |= {key: value for key, value in birth.settings.items() if value is not None}
    if birth.password is None:
        flags["keys.password_file"] = _PASSWORD
    return flags


def new_network(name: str, keys: PublicKeys, others: Sequence[PublicKey] = ()) -> Genesis:
    """A development network whose only validator is this node; it and `others` own its money."""
    return Genesis(
        version=GENESIS_VERSION,
        name=name,
        development=True,
        time_ms=time.time_ns() // 1_000_000,
        validators=(keys.validator(STAKE),),
        allocations=tuple(Allocation(one, BALANCE) for one in sorted((keys.wallet, *others))),
        parameters=Parameters(),
    )


def _read_genesis(path: Path) -> Genesis:
    try:
        return from_json(path.read_bytes())
    except OSError as error:
        raise BadGenesis(f"{path} cannot be read: {error.strerror}") from error
