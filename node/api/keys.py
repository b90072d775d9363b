"""Handlers of wallet_ that move, lock and use keys by hand.

Knows: the keys of this home. Must not know: transports, transactions.
"""

import functools

import trio

from prsm.node.chain.wallets import Wallets
from prsm.node.keys import WALLET, read_exported
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.errors import BadParams
from prsm.node.rpc.methods import keys as api
from prsm.node.rpc.methods.wallet import KeyInfo
from prsm.node.rpc.spec import Caller
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.ids import address_text, parse_hex
from prsm.protocol.signing import message_statement, sha256
from prsm.storage.keystore import Cost, KeyFile, seal_key


class KeysApi:
    """Answers about keys."""

    def __init__(self, wallets: Wallets, *, development: bool) -> None:
        """`development`: key files of cheap cost are taken."""
        self._wallets, self._development = wallets, development

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "wallet_importKey": self.take,
            "wallet_exportKey": self.export,
            "wallet_changePassword": self.change_password,
            "wallet_lock": self.lock,
            "wallet_sign": self.sign,
            "wallet_verify": self.verify,
        }

    async def take(self, params: api.ImportKeyParams, _caller: Caller) -> KeyInfo:
        """Keep a key that was made elsewhere."""
        if (params.key_file is None) == (params.seed is None):
            raise BadParams("give either key_file or seed", field="key_file")
        if params.key_file is None:
            assert params.seed is not None
            seed = bytes.fromhex(params.seed[2:])
        else:
            read = functools.partial(
                read_exported,
                params.key_file.encode(),
                password=params.file_password or params.password,
                development=self._development,
            )
            seed = await trio.to_thread.run_sync(read)
        await self._wallets.take(params.name, seed, params.password)
        return self._info(params.name)

    async def export(self, params: api.ExportKeyParams, _caller: Caller) -> api.ExportedKey:
        """Encrypt a key for another home: at the cost real networks ask for."""
        seed = await self._wallets.read(params.name, params.password)
        key_file = KeyFile(WALLET, Ed25519Signer(seed).public_key, Cost.NORMAL)
        password = params.file_password or params.password

        def seal() -> bytes:
            return seal_key(seed, password=password, key_file=key_file)

        made = await trio.to_thread.run_sync(seal)
        return api.ExportedKey(params.name, address_text(key_file.public), made.decode())

    async def change_password(self, params: api.ChangePasswordParams, _caller: Caller) -> KeyInfo:
        """Encrypt a key of this home anew."""
        await self._wallets.change_password(params.name, params.password, params.new_password)
        return self._info(params.name)

    async def lock(self, params: api.LockParams, _caller: Caller) -> KeyInfo:
        """Forget a decrypted key."""
        self._wallets.lock(params.name)
        return self._info(params.name)

    async def sign(self, params: api.SignParams, _caller: Caller) -> api.SignedMessage:
        """Sign a message."""
        signer = self._wallets.get(params.name).signer
        message = _bytes(params.message, is_hex=params.hex)
        made = signer.sign(message_statement(signer.public_key, message))
        return api.SignedMessage(
            address=address_text(signer.public_key),
            digest=address_text(sha256(message)),
            signature="0x" + made.hex(),
        )

    async def verify(self, params: api.VerifyMessageParams, _caller: Caller) -> api.VerifiedMessage:
        """Check a signature of a message."""
        address = parse_hex(params.address, size=32, what="address")
        statement = message_statement(address, _bytes(params.message, is_hex=params.hex))
        made = bytes.fromhex(params.signature[2:])
        valid = Ed25519Verifier().verify(address, statement, made)
        return api.VerifiedMessage(valid=valid, address=params.address)

    def _info(self, name: str) -> KeyInfo:
        wallet = self._wallets.get(name)
        return KeyInfo(
            name=name, address=address_text(wallet.address), unlocked=not wallet.is_locked
        )


def _bytes(message: str, *, is_hex: bool) -> bytes:
    if not is_hex:
        return message.encode()
    try:
        return bytes.fromhex(message.removeprefix("0x"))
    except ValueError:
        raise BadParams("the message is no hex", field="message") from None
