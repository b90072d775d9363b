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
from prsm.protocol.limits import CARD_BYTES_MAX, CARD_TEXT_MAX, INT_MAX
from prsm.protocol.messages.cards import METRICS_MAX, TAGS_MAX, Card, DataRef, Metric, Word
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.card import is_clean
from prsm.storage.manifest import DATASET_KIND
from prsm.storage.wholefile import refused, regular_size

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
        LocalError: a folder, a pipe or a device.
    """
    regular_size(path)  # opening a pipe would wait for who writes into it
    with refused(path), path.open("rb") as file:
        raw = file.read(CARD_BYTES_MAX + 1)
    if len(raw) > CARD_BYTES_MAX:
        raise BadCardText(f"{path} is larger than {CARD_BYTES_MAX} bytes, no card is")
    try:
        found = _composed(msgspec.json.decode(raw, type=_File))
    except UNREADABLE as error:
        raise BadCardText(
            f"{path} is no card: {error}",
            hint='write {"summary": "…", "task": "sentence-similarity", "tags": ["english"]}',
        ) from error
    for what, text in (("summary", found.summary), ("text", found.text)):
        if not is_clean(text):
            raise BadCardText(f"{path}: its {what} holds control characters")
    if int(found.price_per_row) > INT_MAX:
        raise BadCardText(f"{path}: a price of {found.price_per_row}, at most {INT_MAX}")
    return CardText(
        summary=found.summary,
        task=found.task,
        text=found.text,
        tags=tuple(sorted(set(found.tags))),
        royalty_bps=found.royalty_bps,
        price_per_row=int(found.price_per_row),
        training=found.training,
        metrics=tuple((name, round(value * _MILLION)) for name, value in found.metrics.items()),
    )


def _composed(found: _File) -> _File:
    """The file with its texts in NFC, which may be longer than what was typed.

    Raises:
        msgspec.ValidationError: too long so.
    """
    texts = {name: normalize("NFC", getattr(found, name)) for name in ("summary", "text")}
    return msgspec.convert(msgspec.structs.asdict(found) | texts, type=_File)


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
