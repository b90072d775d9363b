"""A card as its publisher writes it: a small JSON file; the rest is known from the model.

Knows: the form of the file, what of a card is not typed by hand. Must not know: where the file
lies for longer than reading it, how a card is signed.
"""

from pathlib import Path
from typing import Annotated, Final
from unicodedata import normalize

import msgspec

from prsm.node.models.records import CardText
from prsm.protocol.errors import LocalError
from prsm.protocol.jsontext import UNREADABLE
from prsm.protocol.limits import CARD_BYTES_MAX, CARD_TEXT_MAX
from prsm.protocol.messages.cards import METRICS_MAX, TAGS_MAX, Card, DataRef, Metric, Word
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.manifest import DATASET_KIND
from prsm.storage.wholefile import refused

_MILLION: Final = 1_000_000
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Figure = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
_Micro = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,18})$")]


class BadCardText(LocalError):
    """A file that is no card, or says what a card cannot hold."""

    reason = "invalid_params"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    summary: Annotated[str, msgspec.Meta(min_length=1, max_length=280)]
    task: Word
    text: Annotated[str, msgspec.Meta(max_length=CARD_TEXT_MAX)] = ""
    tags: Annotated[tuple[Word, ...], msgspec.Meta(max_length=TAGS_MAX)] = ()
    royalty_bps: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    price_per_row: _Micro = "0"  # micro-FTNS
    training: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=16)] = ()
    metrics: Annotated[dict[Word, _Figure], msgspec.Meta(max_length=METRICS_MAX)] = {}


def read_card_text(path: Path) -> CardText:
    """Read a card's words from a JSON file; `summary` and `task` are needed.

    Raises:
        NotFound: no such file.
        BadCardText: it is none.
    """
    with refused(path), path.open("rb") as file:
        raw = file.read(CARD_BYTES_MAX + 1)
    if len(raw) > CARD_BYTES_MAX:
        raise BadCardText(f"{path} is larger than {CARD_BYTES_MAX} bytes, no card is")
    try:
        found = msgspec.json.decode(raw, type=_File)
    except UNREADABLE as error:
        raise BadCardText(
            f"{path} is no card: {error}",
            hint='write {"summary": "…", "task": "sentence-similarity", "tags": ["english"]}',
        ) from error
    return CardText(
        summary=normalize("NFC", found.summary),
        task=found.task,
        text=normalize("NFC", found.text),
        tags=tuple(sorted(set(found.tags))),
        royalty_bps=found.royalty_bps,
        price_per_row=int(found.price_per_row),
        training=found.training,
        metrics=tuple((name, round(value * _MILLION)) for name, value in found.metrics.items()),
    )


def make_card(text: CardText, manifest: ModelManifest) -> Card:
    """The unsigned card of a manifest."""
    whole = next((shard for shard in manifest.shards if shard.stages == 1), None)
    return Card(
        version=1,
        subject="dataset" if manifest.kind == DATASET_KIND else "model",
        name=manifest.name,
        semver=manifest.semver,
        summary=text.summary,
        text=text.text,
        task=text.task,
        tags=text.tags,
        inputs=whole.inputs if whole else (),
        outputs=whole.outputs if whole else (),
        licence=manifest.licence,
        parents=(),
        royalty_bps=text.royalty_bps,
        price_per_row=text.price_per_row,
        size_bytes=manifest.total_bytes,
        training=tuple(DataRef(None, name) for name in text.training),
        metrics=tuple(Metric(name, value, None) for name, value in text.metrics),
        created_ms=manifest.created_ms,
        publisher=manifest.publisher,
        chain_id=manifest.chain_id,
        signature=None,
    )


def card_owner(manifest: ModelManifest) -> str:
    """Who keeps the block of our own card: the model it is of."""
    return f"card of {manifest.name}@{manifest.semver}"
