"""The registry of models: a name and version point to a manifest, for ever."""

import re
from typing import Final

from prsm.consensus.ledger.context import Context, Effect, Registered
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.halts import is_halted
from prsm.consensus.ledger.records import (
    Model,
    Owner,
    Pointer,
    model_key,
    owner_key,
    version_key,
)
from prsm.consensus.ledger.state import State
from prsm.protocol.transactions.payloads import RegisterModel
from prsm.protocol.transactions.results import Code

# ASCII only: two names that look alike must not be two names.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_SEMVER: Final = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"
)


def register_model(state: State, payload: RegisterModel, context: Context) -> Effect:
    """Bind name and version to a manifest; the first publisher of a name owns it."""
    if not _NAME.fullmatch(payload.name) or not _SEMVER.fullmatch(payload.semver):
        raise Failed(Code.BAD_NAME)
    if is_halted(state, payload.manifest):
        raise Failed(Code.MODEL_HALTED)
    if state.get(model_key(payload.manifest)) is not None:
        raise Failed(Code.MODEL_EXISTS)
    if state.get(version_key(payload.name, payload.semver)) is not None:
        raise Failed(Code.VERSION_EXISTS)
    owner = state.read(owner_key(payload.name), Owner)
    if owner is not None and owner.publisher != context.sender:
        raise Failed(Code.NAME_TAKEN)
    if any(state.get(model_key(parent)) is None for parent in payload.parents):
        raise Failed(Code.UNKNOWN_PARENT)
    state.write(owner_key(payload.name), Owner(publisher=context.sender))
    state.write(version_key(payload.name, payload.semver), Pointer(manifest=payload.manifest))
    state.write(
        model_key(payload.manifest),
        Model(
            manifest=payload.manifest,
            name=payload.name,
            semver=payload.semver,
            publisher=context.sender,
            pinned_sha256=payload.pinned_sha256,
            total_bytes=payload.total_bytes,
            parents=payload.parents,
            height=context.height,
        ),
    )
    return Effect(events=(Registered(payload.manifest, payload.name, payload.semver),))
