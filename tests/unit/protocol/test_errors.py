"""What the typed errors carry."""

import pytest

from prsm.protocol.errors import (
    BadSignature,
    LocalError,
    PrsmError,
    RemoteError,
    Unsupported,
    WireError,
    WrongChain,
)


def test_local_error_says_what_and_what_to_do() -> None:
    error = Unsupported("no GPU worker here", hint="set worker.device to cpu")
    assert (error.what, error.hint, error.reason) == (
        "no GPU worker here",
        "set worker.device to cpu",
        "unsupported",
    )
    assert str(error) == error.what


def test_remote_error_carries_peer_and_penalty() -> None:
    error = WireError("2 values", peer="12D3", penalty=50)
    assert (error.peer, error.penalty, error.hint) == ("12D3", 50, "")
    assert RemoteError("x").penalty == 20


@pytest.mark.parametrize("cls", [LocalError, RemoteError, WireError, BadSignature, WrongChain])
def test_every_error_has_a_reason_of_its_own(cls: type[PrsmError]) -> None:
    assert cls.reason != PrsmError.reason
    assert cls.reason == cls.reason.lower().replace(" ", "_")
