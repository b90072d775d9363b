"""Keys at rest: password-encrypted files for people's keys, plain seed files for the daemon's own.

Knows: Argon2id, AES-256-GCM, file modes. Must not know: where a password comes from (never argv
or environment), or what a key signs. Synchronous: 0.14 CPU seconds at normal cost, so an async
caller goes through a thread. Source: docs/spec/storage.md, "Key files".

Wrong password and tampering cost and say the same. Python cannot wipe memory for certain, and
nothing here claims it does.
"""

import json
import os
import secrets
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from prsm.protocol.errors import LocalError
from prsm.storage.disk import DiskFile, PosixDisk
from prsm.storage.errors import Conflict, Corrupt, ExposedKey, WrongPassword

SEED_BYTES: Final = 32
_FORMAT: Final = "prsm-key-1"
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_FILE_BYTES_MAX: Final = 4096
_FIELDS: Final = frozenset(("format", "purpose", "public", "cost", "salt", "nonce", "sealed"))


class Cost(Enum):
    """How hard guessing a password is: Argon2id memory in KiB and passes, one lane.

    The file names one of these profiles and no figures, so a file from elsewhere cannot ask for
    more memory than the machine has.
    """

    NORMAL = (64 * 1024, 3)  # 139 ms CPU
    HIGH = (256 * 1024, 3)  # 635 ms CPU
    DEVELOPMENT = (1024, 1)  # refused outside development networks


@final
class Box:
    """AES-256-GCM under a key that Argon2id makes of a password: key files and backups."""

    def __init__(self, password: str, salt: bytes, cost: Cost) -> None:
        """Stretch a password; this is what costs.

        Args:
            password: of a person.
            salt: 16 random bytes, never used for another file.
            cost: memory and passes.
        """
        memory_kib, passes = cost.value
        stretch = Argon2id(salt=salt, length=32, iterations=passes, lanes=1, memory_cost=memory_kib)
        self._aead = AESGCM(stretch.derive(password.encode()))

    def seal(self, nonce: bytes, plain: bytes, *, bound: bytes) -> bytes:
        """Encrypt; 16 bytes longer than `plain`. A nonce (12 bytes) is used once for a salt."""
        return self._aead.encrypt(nonce, plain, bound)

    def open(self, nonce: bytes, sealed: bytes, *, bound: bytes) -> bytes | None:
        """Decrypt; None for a wrong password and for anything that was changed."""
        try:
            return self._aead.decrypt(nonce, sealed, bound)
        except InvalidTag:
            return None


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a key file says without a password."""

    purpose: str
    public: bytes
    cost: Cost


def save_key(
    path: Path, seed: bytes, *, password: str, key_file: KeyFile, replace: bool = False
) -> None:
    """Encrypt a 32-byte seed into a new file of mode 0600 in a folder of mode 0700.

    Args:
        path: the file; its folder is made if missing.
        seed: the secret.
        password: of a person; not empty unless the cost is DEVELOPMENT.
        key_file: purpose, public key and cost, stored readable and authenticated.
        replace: overwrite an existing key (a changed password), atomically.

    Raises:
        Conflict: the file exists and `replace` is false.
        LocalError: an empty password, or no 32-byte seed.
        Full, StoreUnavailable: the disk refused.
    """
    _write(path, seal_key(seed, password=password, key_file=key_file), replace=replace)


def seal_key(seed: bytes, *, password: str, key_file: KeyFile) -> bytes:
    """The bytes of a key file: what `save_key` writes, and what is handed to another home.

    Raises:
        LocalError: an empty password, or no 32-byte seed.
    """
    if len(seed) != SEED_BYTES:
        raise LocalError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
    if not password and key_file.cost is not Cost.DEVELOPMENT:
        raise LocalError("an empty password protects nothing", hint="choose a password")
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    sealed = Box(password, salt, key_file.cost).seal(nonce, seed, bound=_bound(key_file, salt))
    document = {
        "format": _FORMAT,
        "purpose": key_file.purpose,
        "public": key_file.public.hex(),
        "cost": key_file.cost.name.lower(),
        "salt": salt.hex(),
        "nonce": nonce.hex(),
        "sealed": sealed.hex(),
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def load_key(path: Path, *, password: str, purpose: str, development: bool = False) -> bytes:
    """Decrypt the seed of a key file.

    Args:
        path: the file.
        password: of its owner.
        purpose: what the caller wants the key for; a file made for something else is refused.
        development: whether this is a development network, where the cheap cost is allowed.

    Raises:
        NotFound: there is no such file.
        ExposedKey: others may read it.
        WrongPassword: wrong password, or the file was changed; nobody can tell which.
        Corrupt: no key file at all.
        LocalError: another purpose, or the cheap cost outside a development network.
    """
    raw = _read_private(path)
    return open_key(
        raw, password=password, purpose=purpose, development=development, where=str(path)
    )[1]


def open_key(
    raw: bytes, *, password: str, purpose: str, development: bool = False, where: str = "it"
) -> tuple[KeyFile, bytes]:
    """What a key file says, and its seed; `where` names it in errors.

    Raises:
        WrongPassword, Corrupt, LocalError: as for `load_key`.
    """
    key_file, salt, nonce, sealed = _read(raw, where)
    if key_file.purpose != purpose:
        raise LocalError(f"{where} holds a key for {key_file.purpose!r}, not for {purpose!r}")
    if key_file.cost is Cost.DEVELOPMENT and not development:
        raise LocalError(
            f"{where} is protected at development cost, which real networks refuse",
            hint="make a new key: prsm wallet new",
        )
    seed = Box(password, salt, key_file.cost).open(nonce, sealed, bound=_bound(key_file, salt))
    if seed is None:
        raise WrongPassword(
            f"{where} does not open: wrong password, or the file was changed",
            hint="type the password again, or restore the file from a backup",
        )
    return key_file, seed


def read_key_file(path: Path) -> KeyFile:
    """Return purpose and public key without a password; authenticated only by `load_key`.

    Raises:
        NotFound, ExposedKey, Corrupt: as for `load_key`.
    """
    return _read(_read_private(path), str(path))[0]


def save_seed(path: Path, seed: bytes) -> None:
    """Write the plain seed of a daemon's own key, mode 0600 in a folder of mode 0700.

    Raises:
        Conflict: the file exists: a key is never overwritten.
        LocalError: no 32-byte seed.
        Full, StoreUnavailable: the disk refused.
    """
    if len(seed) != SEED_BYTES:
        raise LocalError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
    _write(path, seed, replace=False)


def load_seed(path: Path) -> bytes:
    """Read a plain seed.

    Raises:
        NotFound: there is no such file.
        ExposedKey: others may read it.
        Corrupt: not 32 bytes.
    """
    seed = _read_private(path)
    if len(seed) != SEED_BYTES:
        raise Corrupt(f"{path} has {len(seed)} bytes, a seed has {SEED_BYTES}")
    return seed


def _bound(key_file: KeyFile, salt: bytes) -> bytes:
    """Return everything readable in the file, so that none of it can be exchanged."""
    memory_kib, passes = key_file.cost.value
    fields = (
        _FORMAT,
        key_file.purpose,
        key_file.public.hex(),
        "argon2id",
        memory_kib,
        passes,
        salt.hex(),
    )
    return json.dumps(fields).encode()


def _read(raw: bytes, where: str) -> tuple[KeyFile, bytes, bytes, bytes]:
    try:
        return _parse(json.loads(raw))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Corrupt(f"{where} is no key file: {error}") from error


def _parse(document: dict[str, str]) -> tuple[KeyFile, bytes, bytes, bytes]:
    if frozenset(document) != _FIELDS or document["format"] != _FORMAT:
        raise ValueError("other fields than a key file has")
    key_file = KeyFile(
        str(document["purpose"]),
        bytes.fromhex(document["public"]),
        Cost[str(document["cost"]).upper()],
    )
    salt, nonce, sealed = (bytes.fromhex(document[field]) for field in ("salt", "nonce", "sealed"))
    sizes = (len(salt), len(nonce), len(sealed))
    if sizes != (_SALT_BYTES, _NONCE_BYTES, SEED_BYTES + 16):
        raise ValueError(f"sizes {sizes}")
    return key_file, salt, nonce, sealed


def _read_private(path: Path) -> bytes:
    file = PosixDisk().open(str(path))
    try:
        mode = os.stat(path, follow_symlinks=False).st_mode & 0o777  # noqa: PTH116 - one call
        if mode & 0o077:
            raise ExposedKey(f"{path} has mode {mode:04o}, at most 0600", hint=f"chmod 600 {path}")
        if file.size() > _FILE_BYTES_MAX:
            raise Corrupt(f"{path} has {file.size()} bytes, a key file at most {_FILE_BYTES_MAX}")
        return file.read(0, _FILE_BYTES_MAX)
    finally:
        file.close()


def _write(path: Path, raw: bytes, *, replace: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    disk = PosixDisk()
    if not replace and disk.exists(str(path)):
        raise Conflict(f"{path} exists: a key is never overwritten", hint="choose another name")
    fresh = str(path) + ".new"
    disk.remove(fresh)
    file: DiskFile = disk.create(fresh)
    try:
        file.pwrite(0, raw)
        file.fdatasync()
        disk.rename(fresh, str(path))
        disk.sync_folder(str(path))
    finally:
        file.close()
        disk.remove(fresh)
