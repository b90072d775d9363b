"""Homes, chains and chain files for the tests of `node/archive`."""

from pathlib import Path

from prsm.node.archive.chains import import_chain
from prsm.node.chain.sync import encode_certified
from prsm.node.home import Home, write_private
from prsm.node.keys import make_keys
from prsm.protocol.codec import encode
from prsm.protocol.genesis import to_json
from prsm.protocol.transactions.payloads import Transfer
from prsm.storage.chainfile import ChainHead, write_chain
from prsm.testnet.chain import Chain, signer_of, small_genesis

PASSWORD = "correct horse"


def pay(amount: int, to: int) -> Transfer:
    return Transfer(asset=0, to=signer_of(to).public_key, amount=amount, memo=b"")


def make_chain(blocks: int, *, amount: int = 1_000) -> Chain:
    """A chain of one transfer in each block."""
    chain = Chain(small_genesis())
    for number in range(blocks):
        chain.send(64 + number % 4, pay(amount, 90 + number))
    return chain


def records_of(chain: Chain) -> list[bytes]:
    return [encode_certified(encode(made.block), encode(made.certificate)) for made in chain.made]


def save_chain(
    path: Path,
    records: list[bytes],
    *,
    first: int = 1,
    genesis: bytes = small_genesis().digest,
) -> Path:
    with write_chain(path, ChainHead(1, genesis, first, first + len(records) - 1)) as writer:
        for record in records:
            writer.add(record)
    return path


def make_home(root: Path) -> Home:
    """A home of that network, with keys, which never ran."""
    home = Home(root)
    home.create()
    make_keys(home, password=PASSWORD, development=True)
    write_private(home.genesis, to_json(small_genesis()))
    write_private(home.config, b'[node]\nname = "archived"\nprofile = "validator"\n')
    return home


async def fill(home: Home, chain: Chain) -> None:
    """Give a home the blocks of a chain."""
    path = save_chain(home.backups / "fill", records_of(chain))
    await import_chain(home, path)
    path.unlink()
