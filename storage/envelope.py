"""Files only their recipients can read: encrypted once, the key wrapped for each recipient apart.

Knows: sealed files, rings of wrapped keys, recipients. Must not know: where files lie, whose the
keys are. Synchronous: call it in a thread. Source: docs/spec/storage.md, "Envelope".

A ring lies beside the files it opens, so recipients come and go without one byte being encrypted
again, and the CIDs of the files stay. Who was taken out and kept an old ring still opens the old
files: only sealing them anew shuts somebody out of bytes he could have.

Invariants: a file's key seals that file alone; nothing of a file or ring can be changed, moved or
cut off unseen; no plain byte leaves `open_file` under the target's name before all are authentic.
"""

import hashlib
import hmac
import secrets
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, Final, final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import (
    crypto_sign_ed25519_pk_to_curve25519,
    crypto_sign_ed25519_sk_to_curve25519,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.ids import Bytes32
from prsm.protocol.limits import MANIFEST_KEYS_MAX
from prsm.storage.errors import BadEnvelope, NotRecipient
from prsm.storage.sealedchunks import PREFIX_BYTES, Opening, Sealer, Sealing
from prsm.storage.wholefile import new_file, refused

MAGIC: Final = b"prsmenv1"
CHUNK_BYTES: Final = 1024 * 1024
KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 16
RECIPIENTS_MAX: Final = MANIFEST_KEYS_MAX
RING_BYTES_MAX: Final = 16 * 1024
RING_NAME: Final = "sealing.keys"  # beside the files it opens
_HEAD_BYTES_MAX: Final = 256
_WRAPPED_BYTES: Final = KEY_BYTES + 48  # ephemeral key and tag of NaCl's sealed box
_LENGTH: Final = struct.Struct(">I")
_KeyId = Annotated[bytes, msgspec.Meta(min_length=KEY_ID_BYTES, max_length=KEY_ID_BYTES)]


class _Head(Record, frozen=True):
    """Of a sealed file: readable by everybody, authenticated by every chunk."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    salt: Bytes32
    prefix: Annotated[bytes, msgspec.Meta(min_length=PREFIX_BYTES, max_length=PREFIX_BYTES)]


class Wrapped(Record, frozen=True):
    """The ring's key for one recipient."""

    key_id: _KeyId
    box: Annotated[bytes, msgspec.Meta(min_length=_WRAPPED_BYTES, max_length=_WRAPPED_BYTES)]


class Ring(Record, frozen=True):
    """A key wrapped for each recipient, in ascending order of their ids; `tag` authenticates it."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    wrapped: Annotated[tuple[Wrapped, ...], msgspec.Meta(min_length=1, max_length=RECIPIENTS_MAX)]
    tag: Bytes32

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """Ids of the recipients."""
        return tuple(one.key_id for one in self.wrapped)


def key_id(recipient: bytes) -> bytes:
    """The id of a recipient's Ed25519 key, 16 bytes."""
    return hashlib.sha256(b"prsm recipient 1" + recipient).digest()[:KEY_ID_BYTES]


def make_ring(recipients: Sequence[bytes]) -> tuple[Ring, bytes]:
    """Make a fresh key and wrap it.

    Args:
        recipients: Ed25519 public keys, of nodes or wallets; twice is once.

    Returns:
        The ring, and the key (32 bytes) that seals files.

    Raises:
        LocalError: nobody, too many, or no Ed25519 key.
    """
    key = secrets.token_bytes(KEY_BYTES)
    return _ring({key_id(one): _wrap(key, one) for one in recipients}, key), key


def open_ring(ring: Ring, seed: bytes) -> bytes:
    """The key of a ring.

    Args:
        ring: of anybody.
        seed: of a recipient's Ed25519 key.

    Raises:
        NotRecipient: the ring is not for that key.
        BadEnvelope: it names the key, and was changed.
    """
    public, secret = crypto_sign_seed_keypair(seed)
    own = key_id(public)
    box = next((one.box for one in ring.wrapped if one.key_id == own), None)
    if box is None:
        raise NotRecipient(
            f"sealed for {len(ring.wrapped)} keys, and {own.hex()} is none of them",
            hint="ask its publisher to seal it for this node: prsm model add --encrypt-to KEY",
        )
    try:
        key = SealedBox(PrivateKey(crypto_sign_ed25519_sk_to_curve25519(secret))).decrypt(box)
    except CryptoError as error:
        raise _bad_ring("the wrapped key does not open") from error
    if not hmac.compare_digest(ring.tag, _tag(ring.wrapped, key)):
        raise _bad_ring("its list of recipients was changed")
    return key


def add_recipient(ring: Ring, key: bytes, recipient: bytes) -> Ring:
    """The ring with one more recipient; twice is once.

    Raises:
        BadEnvelope: the key is not this ring's.
        LocalError: too many, or no Ed25519 key.
    """
    _require_key(ring, key)
    boxes = {one.key_id: one.box for one in ring.wrapped}
    return _ring(boxes | {key_id(recipient): _wrap(key, recipient)}, key)


def remove_recipient(ring: Ring, key: bytes, recipient: bytes) -> Ring:
    """The ring without a recipient.

    Raises:
        NotRecipient: he is none.
        BadEnvelope: the key is not this ring's.
        LocalError: he is the only one.
    """
    _require_key(ring, key)
    boxes = {one.key_id: one.box for one in ring.wrapped}
    if boxes.pop(key_id(recipient), None) is None:
        raise NotRecipient(f"{key_id(recipient).hex()} is no recipient", hint="nothing to remove")
    return _ring(boxes, key)


def encode_ring(ring: Ring) -> bytes:
    """The ring as it is stored."""
    return encode(ring)


def decode_ring(raw: bytes) -> Ring:
    """Read a ring of anybody; `open_ring` authenticates it.

    Raises:
        BadEnvelope: no ring.
    """
    try:
        ring = decode(raw, Ring, size_max=RING_BYTES_MAX)
    except WireError as error:
        raise _bad_ring(error.what) from error
    if list(ring.key_ids) != sorted(set(ring.key_ids)):
        raise _bad_ring("its recipients are not in order")
    return ring


def seal_file(source: Path, target: Path, key: bytes) -> int:
    """Encrypt a file into a new one, chunk by chunk.

    Args:
        source: plain bytes, of any size.
        target: a new file of mode 0600, there whole or not at all.
        key: of a ring.

    Returns:
        Bytes of the sealed file.

    Raises:
        NotFound, Conflict, Full, StoreUnavailable: the disk refused, or the target exists.
    """
    head = _Head(1, secrets.token_bytes(KEY_BYTES), secrets.token_bytes(PREFIX_BYTES))
    raw = encode(head)
    bound = MAGIC + _LENGTH.pack(len(raw)) + raw
    with refused(source), source.open("rb") as plain, new_file(target) as file:
        file.write(bound)
        sink = Sealing(file, _sealer(head, bound, key))
        while data := plain.read(CHUNK_BYTES):
            sink.write(data)
        sink.finish()
        return file.tell()


def open_file(source: Path, target: Path, key: bytes) -> int:
    """Decrypt a file into a new one, chunk by chunk.

    Args:
        source: of `seal_file`.
        target: a new file of mode 0600, there whole and authentic or not at all.
        key: of the ring it was sealed with.

    Returns:
        Bytes of the plain file.

    Raises:
        BadEnvelope: not sealed with this key, changed or cut off.
        NotFound, Conflict, Full, StoreUnavailable: the disk refused, or the target exists.
    """
    with refused(source), source.open("rb") as sealed, new_file(target) as file:
        for chunk in _opening(sealed, source, key).chunks():
            file.write(chunk)
        return file.tell()


def check_file(source: Path, key: bytes) -> int:
    """Bytes of the plain file, after every chunk was authentic; writes nothing.

    Raises:
        BadEnvelope: not sealed with this key, changed or cut off.
        NotFound, StoreUnavailable: the disk refused.
    """
    with refused(source), source.open("rb") as sealed:
        return sum(len(chunk) for chunk in _opening(sealed, source, key).chunks())


def _opening(file: BinaryIO, path: Path, key: bytes) -> Opening:
    start = file.read(len(MAGIC) + _LENGTH.size)
    size = _LENGTH.unpack(start[len(MAGIC) :])[0] if len(start) == len(MAGIC) + 4 else 0
    if not start.startswith(MAGIC) or not 0 < size <= _HEAD_BYTES_MAX:
        raise BadEnvelope(f"{path} is no sealed file", hint="it was published unencrypted")
    raw = file.read(size)
    try:
        head = decode(raw, _Head, size_max=_HEAD_BYTES_MAX)
    except WireError as error:
        raise BadEnvelope(f"{path}: its head does not hold: {error.what}") from error

    def refusal(place: int) -> LocalError:
        what = "was sealed with another key, or" if not place else "was"
        return BadEnvelope(
            f"{path} {what} changed or cut off behind byte {place * CHUNK_BYTES}",
            hint="check it with: prsm model verify REF",
        )

    return Opening(file, _sealer(head, start + raw, key), refusal)


@final
class _FileCipher:
    """AES-256-GCM under the key of one file."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, nonce: bytes, plain: bytes, *, bound: bytes) -> bytes:
        return self._aead.encrypt(nonce, plain, bound)

    def open(self, nonce: bytes, sealed: bytes, *, bound: bytes) -> bytes | None:
        try:
            return self._aead.decrypt(nonce, sealed, bound)
        except InvalidTag:
            return None


def _sealer(head: _Head, bound: bytes, key: bytes) -> Sealer:
    cipher = _FileCipher(_derive(key, head.salt, b"prsm envelope 1 file"))
    return Sealer(cipher, head.prefix, bound, CHUNK_BYTES)


def _derive(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=purpose).derive(key)


def _wrap(key: bytes, recipient: bytes) -> bytes:
    try:
        public = PublicKey(crypto_sign_ed25519_pk_to_curve25519(recipient))
        return bytes(SealedBox(public).encrypt(key))
    except (CryptoError, ValueError) as error:
        raise LocalError(
            f"0x{recipient.hex()} is no Ed25519 key anything can be sealed for",
            hint="give the peer id of the node that is to read it (`prsm status` there shows it)",
        ) from error


def _ring(boxes: dict[bytes, bytes], key: bytes) -> Ring:
    if not 0 < len(boxes) <= RECIPIENTS_MAX:
        raise LocalError(f"{len(boxes)} recipients, from 1 to {RECIPIENTS_MAX}")
    wrapped = tuple(Wrapped(one, boxes[one]) for one in sorted(boxes))
    return Ring(1, wrapped, _tag(wrapped, key))


def _require_key(ring: Ring, key: bytes) -> None:
    if not hmac.compare_digest(ring.tag, _tag(ring.wrapped, key)):
        raise _bad_ring("the key is not the one it wraps")


def _tag(wrapped: Sequence[Wrapped], key: bytes) -> bytes:
    own = _derive(key, b"", b"prsm envelope 1 ring")
    listed = b"".join(one.key_id + one.box for one in wrapped)
    return hmac.digest(own, listed, "sha256")


def _bad_ring(why: str) -> BadEnvelope:
    return BadEnvelope(
        f"the ring of wrapped keys does not hold: {why}",
        hint="get it again from the publisher: prsm model pull REF",
    )
