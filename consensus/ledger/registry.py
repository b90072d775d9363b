"""The registry of models and datasets: a name and version point to a manifest, for ever.

Knows: who may write what of a name. Must not know: how a wish is met (`releases`), or what is in
a manifest or a card.
"""

import re
from typing import Final

from prsm.consensus.ledger.context import (
    DONE,
    ChannelMoved,
    Context,
    Effect,
    Registered,
    YankChanged,
)
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
from prsm.consensus.ledger.releases import (
    CardPointer,
    Channels,
    Dataset,
    Versions,
    Yanked,
    card_key,
    channels_key,
    channels_of,
    dataset_key,
    is_registered,
    owner_of,
    release_of,
    versions_key,
    versions_of,
    yanked_key,
)
from prsm.consensus.ledger.state import State
from prsm.protocol.semver import is_channel, is_version
from prsm.protocol.transactions.payloads import RegisterModel
from prsm.protocol.transactions.registry import (
    CHANNELS_MAX,
    VERSIONS_MAX,
    RegisterDataset,
    SetCard,
    SetChannel,
    Yank,
)
from prsm.protocol.transactions.results import Code

# ASCII only: two names that look alike must not be two names.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


def register_model(state: State, payload: RegisterModel, context: Context) -> Effect:
    """Bind name and version to a manifest; the first publisher of a name owns it."""
    return _register(
        state,
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


def register_dataset(state: State, payload: RegisterDataset, context: Context) -> Effect:
    """The same of a dataset; models and datasets share the names."""
    return _register(
        state,
        Dataset(
            manifest=payload.manifest,
            name=payload.name,
            semver=payload.semver,
            publisher=context.sender,
            sha256=payload.sha256,
            total_bytes=payload.total_bytes,
            rows=payload.rows,
            price=payload.price,
            parents=payload.parents,
            height=context.height,
        ),
    )


def is_well_formed(name: str, semver: str) -> bool:
    """Are these a name and a version that anything may be registered under?"""
    return _NAME.fullmatch(name) is not None and is_version(semver)


def set_channel(state: State, payload: SetChannel, context: Context) -> Effect:
    """Point a channel of a name to one of its versions, or take it away."""
    _require_owner(state, payload.name, context.sender)
    if not is_channel(payload.channel):
        raise Failed(Code.BAD_CHANNEL)
    channels = channels_of(state, payload.name)
    if channels.get(payload.channel) == payload.semver:
        raise Failed(Code.NO_CHANGE)
    if payload.semver is None:
        del channels[payload.channel]
    else:
        _require_version(state, payload.name, payload.semver)
        if state.get(yanked_key(payload.name, payload.semver)) is not None:
            raise Failed(Code.VERSION_YANKED)
        channels[payload.channel] = payload.semver
    if len(channels) > CHANNELS_MAX:
        raise Failed(Code.TOO_MANY_CHANNELS)
    key = channels_key(payload.name)
    if channels:
        state.write(key, Channels(name=payload.name, entries=tuple(sorted(channels.items()))))
    else:
        state.delete(key)
    return Effect(events=(ChannelMoved(payload.name, payload.channel, payload.semver),))


def yank(state: State, payload: Yank, context: Context) -> Effect:
    """Withdraw a version, or take that back; channels stay where they point."""
    _require_owner(state, payload.name, context.sender)
    _require_version(state, payload.name, payload.semver)
    key = yanked_key(payload.name, payload.semver)
    if (state.get(key) is not None) is not payload.lift:
        raise Failed(Code.NO_CHANGE)
    if payload.lift:
        state.delete(key)
    else:
        state.write(key, Yanked(reason=payload.reason, height=context.height))
    return Effect(events=(YankChanged(payload.name, payload.semver, yanked=not payload.lift),))


def set_card(state: State, payload: SetCard, context: Context) -> Effect:
    """Let another card speak for a manifest."""
    release = release_of(state, payload.manifest)
    if release is None:
        raise Failed(Code.UNKNOWN_MANIFEST)
    if release.publisher != context.sender:
        raise Failed(Code.NOT_PUBLISHER)
    if release.card == payload.card:
        raise Failed(Code.NO_CHANGE)
    pointer = CardPointer(card=payload.card, height=context.height)
    state.write(card_key(payload.manifest), pointer)
    return DONE


def _register(state: State, entry: Model | Dataset) -> Effect:
    name, semver, manifest = entry.name, entry.semver, entry.manifest
    if not is_well_formed(name, semver):
        raise Failed(Code.BAD_NAME)
    if is_halted(state, manifest):
        raise Failed(Code.MODEL_HALTED)
    if is_registered(state, manifest):
        raise Failed(Code.MODEL_EXISTS)
    if state.get(version_key(name, semver)) is not None:
        raise Failed(Code.VERSION_EXISTS)
    if owner_of(state, name) not in {None, entry.publisher}:
        raise Failed(Code.NAME_TAKEN)
    if not all(is_registered(state, parent) for parent in entry.parents):
        raise Failed(Code.UNKNOWN_PARENT)
    listed = versions_of(state, name)
    if len(listed) >= VERSIONS_MAX:
        raise Failed(Code.TOO_MANY_VERSIONS)
    state.write(owner_key(name), Owner(publisher=entry.publisher))
    state.write(version_key(name, semver), Pointer(manifest=manifest))
    state.write(versions_key(name), Versions(name=name, semvers=(*listed, semver)))
    key = model_key(manifest) if isinstance(entry, Model) else dataset_key(manifest)
    state.write(key, entry)
    return Effect(events=(Registered(manifest, name, semver),))


def _require_owner(state: State, name: str, sender: bytes) -> None:
    if owner_of(state, name) != sender:
        raise Failed(Code.NOT_PUBLISHER)


def _require_version(state: State, name: str, semver: str) -> None:
    if state.get(version_key(name, semver)) is None:
        raise Failed(Code.UNKNOWN_VERSION)
