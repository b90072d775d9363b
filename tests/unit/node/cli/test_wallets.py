"""`prsm wallet import | export | passwd | verify`: files in and out, secrets on no command line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from prsm.node.cli.main import prsm
from prsm.node.rpc.methods.keys import ExportedKey
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.ids import address_text
from prsm.protocol.signing import message_statement
from tests.tools.served import Served

SIGNER = Ed25519Signer(bytes(range(32)))
ADDRESS = address_text(SIGNER.public_key)
SECRET = "0x" + bytes(range(32)).hex()


def secret(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text + "\n", encoding="utf-8")
    path.chmod(0o600)
    return str(path)


def test_key_is_taken_from_bytes_or_from_a_key_file(served: Served, tmp_path: Path) -> None:
    """Hex of standard input, a document of a file; passwords from files of their own."""
    own = secret(tmp_path, "own", "of the key")
    done = served.run(
        "wallet", "import", "-", "--name", "old", "--password-file", own, input=SECRET + "\n"
    )
    assert done.exit_code == 0, done.output
    _, params = served.node.calls[-1]
    assert (params.seed, params.key_file, params.password) == (SECRET, None, "of the key")
    document = secret(tmp_path, "document", '{"format": "prsm-key-1"}')
    other = secret(tmp_path, "other", "of the file")
    words = ["wallet", "import", document, "--name", "old", "--password-file", own]
    assert served.run(*words, "--file-password-file", other).exit_code == 0
    _, params = served.node.calls[-1]
    assert (params.seed, params.file_password) == (None, "of the file")
    assert params.key_file.startswith("{")


def test_exported_key_is_private_and_never_overwrites(served: Served, tmp_path: Path) -> None:
    """A new file of mode 0600; there already: the node is not even asked."""
    own, path = secret(tmp_path, "own", "of the key"), tmp_path / "spare.key"
    served.node.answers["wallet_exportKey"] = ExportedKey("spare", ADDRESS, '{"format": 1}')
    words = ["wallet", "export", "spare", str(path), "--password-file", own, "--json"]
    done = served.run(*words)
    assert json.loads(done.stdout) == {"name": "spare", "address": ADDRESS, "file": str(path)}
    assert path.read_text() == '{"format": 1}'
    assert path.stat().st_mode & 0o777 == 0o600
    again = served.run(*words)
    assert again.exit_code == 1
    assert len(served.node.calls) == 1


def test_password_comes_from_two_files(served: Served, tmp_path: Path) -> None:
    """The present one and the new one."""
    old, new = secret(tmp_path, "old", "present"), secret(tmp_path, "new", "next")
    words = ["wallet", "passwd", "spare", "--password-file", old, "--new-password-file", new]
    done = served.run(*words)
    assert done.exit_code == 0, done.output
    _, params = served.node.calls[-1]
    assert (params.name, params.password, params.new_password) == ("spare", "present", "next")
    assert "present" not in done.output


@pytest.mark.parametrize(
    ("message", "expected"), [("a message", 0), ("a message\n", 6), ("another", 6)]
)
def test_message_is_checked_without_a_node(message: str, expected: int, tmp_path: Path) -> None:
    """Exit 0 for what was signed, 6 for anything else."""
    made = "0x" + SIGNER.sign(message_statement(SIGNER.public_key, b"a message")).hex()
    words = ["--home", str(tmp_path), "wallet", "verify", message, ADDRESS, made, "--json"]
    done = CliRunner().invoke(prsm, words)
    assert done.exit_code == expected
    if not expected:
        assert json.loads(done.stdout) == {"valid": True, "address": ADDRESS}
