"""Which entry of the state a request for a proof means.

Knows: keys of the ledger's records as people write them. Must not know: how an entry is proven.
"""

from collections.abc import Callable
from typing import Final

from prsm.consensus.ledger import records, releases
from prsm.node.rpc.methods import chain as api
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import parse_hex

ASSET_MAX: Final = 2**32 - 1
_MANIFEST_CID_BYTES: Final = 36


def state_key(params: api.ProofParams) -> bytes:
    """The key of an entry.

    Raises:
        LocalError: a key of another length, or no hex.
    """
    match params.kind:
        case "account":
            if params.asset > ASSET_MAX:
                raise LocalError(f"asset {params.asset}, at most {ASSET_MAX}")
            return records.account_key(_fixed(params), params.asset)
        case "version" | "yank":
            name, _, semver = _named(params).partition("@")
            make = records.version_key if params.kind == "version" else releases.yanked_key
            return make(name, semver)
        case "versions":
            return releases.versions_key(_named(params))
        case "channels":
            return releases.channels_key(_named(params))
        case _:
            return _KEYS[params.kind](_fixed(params))


_KEYS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "validator": records.bond_key,
    "model": records.model_key,
    "dataset": releases.dataset_key,
    "card": releases.card_key,
    "escrow": records.job_key,
    "hold": records.held_key,
}


def _fixed(params: api.ProofParams) -> bytes:
    size = _MANIFEST_CID_BYTES if params.kind in {"model", "dataset", "card"} else 32
    return parse_hex(params.key, size=size, what=f"key of {params.kind}")


def _named(params: api.ProofParams) -> str:
    try:
        return bytes.fromhex(params.key.removeprefix("0x")).decode()
    except ValueError as error:  # of the hex, or of the text
        raise LocalError(
            f"key of {params.kind} is no hex of UTF-8 text",
            hint="write NAME@VERSION, or NAME for versions and channels, as 0x and hex digits",
        ) from error
