"""consensus_ chain_: agreement and ledger."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.spec import (
    AmountText,
    ChainIdText,
    Count,
    Hex32,
    HexBytes,
    Method,
    NoParams,
    Ordinal,
    Params,
    PeerIdText,
    Result,
    Scope,
)
from prsm.protocol.limits import TRANSACTION_BYTES_MAX, VALIDATORS_MAX

_RawTransaction = Annotated[HexBytes, msgspec.Meta(max_length=2 + 2 * TRANSACTION_BYTES_MAX)]
_Document = dict[str, object]
_EXAMPLE_HASH: Final = "0x" + "00" * 32


class ConsensusState(Result, frozen=True):
    """Where agreement stands."""

    height: Count
    view: Count
    phase: str
    epoch: Count
    proposer: Count | None
    signer_index: Count | None
    head_hash: Hex32
    head_time: str | None


class EpochParams(Params, frozen=True):
    """An epoch; the current one if left out."""

    epoch: Count | None = None


class ValidatorInfo(Result, frozen=True):
    """One validator of an epoch."""

    index: Annotated[int, msgspec.Meta(ge=0, lt=VALIDATORS_MAX)]
    operator: Hex32
    consensus: Hex32
    peer_id: PeerIdText
    stake: AmountText


class Validators(Result, frozen=True):
    """The set of an epoch; `quorum` is the least stake that decides."""

    epoch: Count
    validators_hash: Hex32
    stake_total: AmountText
    quorum: AmountText
    items: tuple[ValidatorInfo, ...]


class RoundMember(Result, frozen=True):
    """One member in the agreement on the next block."""

    index: Annotated[int, msgspec.Meta(ge=0, lt=VALIDATORS_MAX)]
    operator: Hex32
    peer_id: PeerIdText
    stake: AmountText
    silent_ms: Count | None  # since a vote or STATUS of it; None: never heard; 0 for this node


class Round(Result, frozen=True):
    """The agreement on the next block, as this node sees it."""

    height: Count
    view: Count
    phase: str
    proposer: Count
    epoch: Count
    epoch_first: Count
    low_mark: Count
    silent_because: str  # why this node signs nothing and until when; empty if it may
    quorum: AmountText
    members: tuple[RoundMember, ...]
    following: Validators  # of the epoch after


class ChainStatus(Result, frozen=True):
    """The ledger in one look."""

    network: str
    chain_id: ChainIdText
    genesis_hash: Hex32
    development: bool
    height: Count
    head_hash: Hex32
    state_root: Hex32
    head_time: str | None
    epoch: Count
    validators: Count
    supply: AmountText
    transactions: Count
    mempool: Count


class Supply(Result, frozen=True):
    """Where all micro-FTNS are: `accounts` is counted one by one, so that anyone can add up.

    minted = accounts + locked + bonded + burnt.
    """

    height: Count
    minted: AmountText
    accounts: AmountText
    locked: AmountText
    bonded: AmountText
    burnt: AmountText


class BlockParams(Params, frozen=True):
    """By height or by hash; the newest if both are left out."""

    height: Annotated[Ordinal | None, msgspec.Meta(description="height of the block")] = None
    hash: Annotated[Hex32 | None, msgspec.Meta(description="hash of its header")] = None


class CertificateInfo(Result, frozen=True):
    """A quorum's signatures over one header."""

    view: Count
    digest: Hex32
    signers: tuple[int, ...]
    stake: AmountText
    raw: HexBytes


class TransactionInfo(Result, frozen=True):
    """A transaction, and what became of it.

    `ok` and `why` speak of the execution; both are empty while it is pending.
    """

    tx_id: Hex32
    kind: str
    sender: Hex32
    nonce: Count
    fee: AmountText
    status: Literal["pending", "committed"]
    height: Count | None
    index: Count | None
    ok: bool | None
    why: str
    body: _Document
    raw: HexBytes


class BlockInfo(Result, frozen=True):
    """A committed block."""

    height: Ordinal
    hash: Hex32
    prev_hash: Hex32
    view: Count
    epoch: Count
    proposer: Count
    time: str
    state_root: Hex32
    tx_root: Hex32
    size_bytes: Count
    evidence: Count
    certificate: CertificateInfo | None
    transactions: tuple[TransactionInfo, ...]
    header: HexBytes


class CertifiedParams(Params, frozen=True):
    """Successive blocks from `first`; up to the newest if `last` is left out."""

    first: Annotated[Ordinal, msgspec.Meta(description="height of the first block")]
    last: Annotated[Ordinal | None, msgspec.Meta(description="height of the last one")] = None


class CertifiedBlocks(Result, frozen=True):
    """Canonical bytes of successive blocks, each with its certificate; ask again for the rest."""

    height: Count  # of the newest block
    items: tuple[HexBytes, ...]


class TxParams(Params, frozen=True):
    """A transaction's id."""

    tx_id: Annotated[Hex32, msgspec.Meta(description="0x and 64 hex digits")]


class TransactionReceipt(Result, frozen=True):
    """How a committed transaction ended."""

    tx_id: Hex32
    height: Ordinal
    index: Count
    ok: bool
    why: str
    fee: AmountText
    receipt: HexBytes
    proof: HexBytes


class SubmitParams(Params, frozen=True):
    """A signed transaction in its canonical bytes."""

    raw: _RawTransaction


class Submitted(Result, frozen=True):
    """The id to ask for."""

    tx_id: Hex32


ProofKind = Literal[
    "account",
    "validator",
    "model",
    "dataset",
    "card",
    "version",
    "yank",
    "versions",
    "channels",
    "escrow",
    "hold",
]


class ProofParams(Params, frozen=True):
    """What to prove: a kind of ledger record and its key.

    The key of a version and of a yank is `name@version` in UTF-8, of `versions` and `channels` the
    name.
    """

    kind: ProofKind
    key: HexBytes
    asset: Count = 0


class StateProof(Result, frozen=True):
    """A record with its Merkle path to a certified state root; `value` is null if absent."""

    kind: str
    key: HexBytes
    value: HexBytes | None
    height: Count
    state_root: Hex32
    proof: HexBytes
    header: HexBytes
    certificate: HexBytes


class VerifyParams(Params, frozen=True):
    """The answer of chain_getProof, from whatever node."""

    document: _Document


class Verified(Result, frozen=True):
    """True only if every hash and signature held against this node's validators."""

    valid: bool
    height: Count
    state_root: Hex32
    why: str = ""


METHODS: Final = (
    Method("consensus_getState", NoParams, ConsensusState, Scope.READ, "Height, view and phase."),
    Method(
        "consensus_getRound",
        NoParams,
        Round,
        Scope.READ,
        "Height, view and phase; when each validator was heard last; the next epoch's set.",
        words=("chain", "round"),
    ),
    Method(
        "consensus_getValidators",
        EpochParams,
        Validators,
        Scope.READ,
        "Who votes, with which stake.",
        words=("chain", "validators"),
        path="/validators",
    ),
    Method(
        "chain_getStatus",
        NoParams,
        ChainStatus,
        Scope.READ,
        "Height, state root and supply.",
        words=("chain", "status"),
    ),
    Method(
        "chain_getSupply",
        NoParams,
        Supply,
        Scope.READ,
        "All micro-FTNS, counted.",
        words=("chain", "supply"),
    ),
    Method(
        "chain_getBlock",
        BlockParams,
        BlockInfo,
        Scope.READ,
        "A block with its transactions and certificate.",
        words=("chain", "block"),
        positional=("height",),
        example=BlockParams(height=1),
        path="/block",
    ),
    Method(
        "chain_getCertified",
        CertifiedParams,
        CertifiedBlocks,
        Scope.READ,
        "Blocks with certificates in their canonical bytes, a page at a time.",
        example=CertifiedParams(first=1),
    ),
    Method(
        "chain_getTransaction",
        TxParams,
        TransactionInfo,
        Scope.READ,
        "A transaction and what became of it.",
        words=("chain", "tx"),
        positional=("tx_id",),
        example=TxParams(_EXAMPLE_HASH),
        path="/tx",
    ),
    Method(
        "chain_getReceipt",
        TxParams,
        TransactionReceipt,
        Scope.READ,
        "How a committed transaction ended, with proof.",
        example=TxParams(_EXAMPLE_HASH),
    ),
    Method(
        "chain_submitTransaction",
        SubmitParams,
        Submitted,
        Scope.WRITE,
        "Hand in a signed transaction.",
        example=SubmitParams("0x00"),
    ),
    Method(
        "chain_getProof",
        ProofParams,
        StateProof,
        Scope.READ,
        "A ledger record with its proof.",
        example=ProofParams("account", _EXAMPLE_HASH),
    ),
    Method(
        "chain_verifyProof",
        VerifyParams,
        Verified,
        Scope.READ,
        "Check the answer of chain_getProof.",
        example=VerifyParams({}),
    ),
)
