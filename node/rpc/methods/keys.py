"""wallet_ of keys: brought in, handed out, locked, their passwords, and what they sign by hand."""

from typing import Annotated, Final

import msgspec

from prsm.node.rpc.methods.wallet import KeyInfo
from prsm.node.rpc.spec import Hex32, HexBytes, KeyName, Method, Params, Result, Scope

_Password = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
_Message = Annotated[
    str, msgspec.Meta(max_length=65_536, description="text; with hex: 0x and pairs of hex digits")
]
_EXAMPLE: Final = "0x" + "00" * 32


class ImportKeyParams(Params, frozen=True):
    """A payment key from elsewhere: a key file with its password, or the 32 secret bytes."""

    name: KeyName
    password: Annotated[_Password, msgspec.Meta(description="of the key in this home")]
    key_file: Annotated[
        Annotated[str, msgspec.Meta(max_length=4096)] | None,
        msgspec.Meta(description="what wallet_exportKey answers"),
    ] = None
    file_password: Annotated[
        _Password | None, msgspec.Meta(description="of the key file; else as password")
    ] = None
    seed: Annotated[Hex32 | None, msgspec.Meta(description="the secret bytes themselves")] = None


class ExportKeyParams(Params, frozen=True):
    """A payment key as an encrypted file for another home."""

    name: KeyName
    password: Annotated[_Password, msgspec.Meta(description="of the key in this home")]
    file_password: Annotated[
        _Password | None, msgspec.Meta(description="of the file; else as password")
    ] = None


class ExportedKey(Result, frozen=True):
    """A key, encrypted: a document that `wallet_importKey` takes."""

    name: KeyName
    address: Hex32
    key_file: str


class ChangePasswordParams(Params, frozen=True):
    """Another password for a key of this home."""

    name: KeyName
    password: Annotated[_Password, msgspec.Meta(description="the present one")]
    new_password: _Password


class LockParams(Params, frozen=True):
    """Which key."""

    name: KeyName = "default"


class SignParams(Params, frozen=True):
    """A message for people or programs; no transaction or vote can be made of it."""

    message: _Message
    name: KeyName = "default"
    hex: Annotated[bool, msgspec.Meta(description="the message is bytes in hex")] = False


class SignedMessage(Result, frozen=True):
    """A signature over `prsm1ms`, the address, and the message's sha256."""

    address: Hex32
    digest: Hex32  # of the message
    signature: HexBytes


class VerifyMessageParams(Params, frozen=True):
    """A message, who is said to have signed it, and the signature."""

    message: _Message
    address: Hex32
    signature: Annotated[HexBytes, msgspec.Meta(max_length=130)]
    hex: Annotated[bool, msgspec.Meta(description="the message is bytes in hex")] = False


class VerifiedMessage(Result, frozen=True):
    """Whether the address signed the message."""

    valid: bool
    address: Hex32


METHODS: Final = (
    Method(
        "wallet_importKey",
        ImportKeyParams,
        KeyInfo,
        Scope.SIGN,
        "Take a payment key that was made elsewhere.",
        deadline_ms=30_000,
        example=ImportKeyParams("old", "correct horse", seed="0x" + "07" * 32),
    ),
    Method(
        "wallet_exportKey",
        ExportKeyParams,
        ExportedKey,
        Scope.SIGN,
        "A payment key as an encrypted file for another home.",
        deadline_ms=30_000,
        example=ExportKeyParams("spare", "correct horse"),
        tells_secret=True,
    ),
    Method(
        "wallet_changePassword",
        ChangePasswordParams,
        KeyInfo,
        Scope.SIGN,
        "Encrypt a key under another password.",
        deadline_ms=30_000,
        example=ChangePasswordParams("spare", "correct horse", "battery staple"),
    ),
    Method(
        "wallet_lock",
        LockParams,
        KeyInfo,
        Scope.SIGN,
        "Forget a decrypted key now.",
        words=("wallet", "lock"),
        positional=("name",),
        example=LockParams("spare"),
    ),
    Method(
        "wallet_sign",
        SignParams,
        SignedMessage,
        Scope.SIGN,
        "Sign a message with a key of this home.",
        words=("wallet", "sign"),
        positional=("message",),
        example=SignParams("a message"),
    ),
    Method(
        "wallet_verify",
        VerifyMessageParams,
        VerifiedMessage,
        Scope.READ,
        "Whether an address signed a message.",
        example=VerifyMessageParams("a message", _EXAMPLE, "0x" + "00" * 64),
    ),
)
