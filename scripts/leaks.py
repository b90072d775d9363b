"""`python scripts/leaks.py FOLDER`: secrets of every node's home under FOLDER, sought everywhere.

A home's secrets are its keys, the encrypted ones too where its password lies beside them, its
password, the keys of its tokens and its cookie. Each is sought raw, in hex and in base64 in every
file under FOLDER but the one that keeps it: logs, databases, answers, blocks, backups, bundles.
So `pytest --basetemp DIR` and then this over DIR says what a whole run gave away.

Knows: the layout of a home. Must not know: who wrote the files.
"""

import argparse
import base64
import mmap
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
_DISTINCT_MIN: Final = 12  # a key of zeros, as tests have, is found in every empty page
_KEEPERS: Final = ("keys", ".cookie")


def secrets_of(home: Path) -> dict[str, bytes]:
    """What a home must keep to itself, by name."""
    keys = home / "keys"
    found = {path.name: path.read_bytes() for path in keys.glob("*.key") if _is_seed(path)}
    password = keys / "password"
    if password.exists():
        found["password"] = password.read_bytes().strip()
        found |= _opened(keys, found["password"].decode())
    for line in _lines(keys / "rpc.jwt"):
        found[f"token key {line.split()[0]}"] = bytes.fromhex(line.split()[1])
    for line in _lines(home / "run" / ".cookie"):
        found["cookie"] = bytes.fromhex(line)
    return {f"{home.name}: {name}": one for name, one in found.items() if _is_secret(one)}


def homes_in(folder: Path) -> list[Path]:
    """Every node's home below a folder."""
    return sorted(path.parents[1] for path in folder.rglob("keys/node.key"))


def hits(folder: Path, secrets: Mapping[str, bytes]) -> Iterator[str]:
    """One line for each secret in each file that does not keep it."""
    forms = [(name, form) for name, secret in secrets.items() for form in _forms(secret)]
    for path in sorted(folder.rglob("*")):
        if not _is_open(path.relative_to(folder)) or not _is_file(path):
            continue
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                continue
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                for name, form in forms:
                    if view.find(form) >= 0:
                        yield f"{path}: {name}"


def _is_open(path: Path) -> bool:
    return not any(part in _KEEPERS for part in path.parts)


def _forms(secret: bytes) -> list[bytes]:
    text = secret.hex().encode()
    forms = {secret, text, text.upper(), base64.b64encode(secret).rstrip(b"=")}
    forms.add(base64.urlsafe_b64encode(secret).rstrip(b"="))
    return sorted(forms)


def _opened(keys: Path, password: str) -> dict[str, bytes]:
    """Seeds of the encrypted keys."""
    # Run by itself, this file finds the package only once its place is known.
    from prsm.node.keys import OPERATOR, WALLET  # noqa: PLC0415 - as above
    from prsm.storage.keystore import load_key  # noqa: PLC0415 - as above

    files = [(keys / "operator.key", OPERATOR)]
    files += [(path, WALLET) for path in keys.glob("wallet/*.key")]
    found: dict[str, bytes] = {}
    for path, purpose in files:
        try:
            found[f"seed of {path.name}"] = load_key(
                path, password=password, purpose=purpose, development=True
            )
        except Exception as error:  # noqa: BLE001 - under another password: its own test's affair
            print(f"{path} stays closed: {error}", file=sys.stderr)
    return found


def _is_seed(path: Path) -> bool:
    return path.stat().st_size == 32


def _is_secret(secret: bytes) -> bool:
    return len(secret) >= 8 and len(set(secret)) >= min(_DISTINCT_MIN, len(secret) // 2)


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []


def main() -> int:
    """Print each hit; 1 if there are any, or nothing to seek."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    homes = homes_in(folder)
    secrets = {name: one for home in homes for name, one in secrets_of(home).items()}
    found = list(hits(folder, secrets))
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(homes)} homes, {len(secrets)} secrets, {len(found)} hits")
    return 1 if found or not secrets else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    sys.exit(main())
