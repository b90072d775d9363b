"""The first document: validators, balances, parameters. Its digest is the network.

People read and write canonical JSON (sorted keys, amounts as decimal strings, bytes as 0x hex);
the digest is sha256 over the canonical msgpack of the same values, so whitespace cannot fork a
network. `chain_id` is the digest's first 8 bytes.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Final

import msgspec

from prsm.protocol import governance
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import LocalError
from prsm.protocol.governance import DAY_MS, YEARS_MS, Rules
from prsm.protocol.ids import Amount, Bytes32, Digest, PublicKey, UInt, address_text, parse_hex
from prsm.protocol.limits import GENESIS_ALLOCATIONS_MAX, VALIDATORS_MAX
from prsm.protocol.signing import sha256
from prsm.protocol.validators import STAKE_TOTAL_MAX, Members, Validator, ValidatorSet

# No key has this address: its 32 bytes are a hash. Only the ledger's rules move its balance.
TREASURY: Final = PublicKey(sha256(b"prsm1 treasury"))

# Rises whenever the rules of the ledger give an old chain another state: a program that has other
# rules would diverge from its own past, so it refuses the network instead. Version 2: versions of
# a name stand in the state, and jurors seal what they find. Version 3: a standing says what was
# earned, a commitment names its batches, and every parameter has bounds.
GENESIS_VERSION: Final = 3

# A bond must outlive the two epochs a member's weight is fixed for. Every set of the window
# stays in the state: 16,384 epochs of a minute are 11 days.
UNBONDING_EPOCHS_MIN: Final = 2
UNBONDING_EPOCHS_MAX: Final = 16_384


# Each bound leaves a network that goes on, and whose members can afford to vote otherwise: at the
# highest fees a proposal costs about ten FTNS, a vote five.
FEE_MAX: Final = 1_000_000  # micro-FTNS a transaction, and an operation
FEE_PER_BYTE_MAX: Final = 10_000
AMOUNT_MAX: Final = 10**18  # all that a network may mint: nobody has more
# A wallet signs for ten minutes, and clocks differ: with less no transaction of it would stand.
TRANSACTION_MS_MIN: Final = 900_000
# A proposer may put the time of all later blocks so far ahead: what a wallet signed still stands.
CLOCK_WINDOW_MS_MAX: Final = TRANSACTION_MS_MIN // 3
BLOCK_GAP_MS_MAX: Final = 60_000  # the next block is in time for it as well
PACE_MS_MAX: Final = 3_600_000  # an empty block, a new view: at least one an hour
TIME_MS_MAX: Final = 2**53 - 1  # any reader of JSON has it exactly; block times go on from there
# What begins under a window keeps it, so a mistaken vote ties nobody's money up for longer.
WINDOW_MS_MAX: Final = 30 * DAY_MS
UNBONDING_MS_MAX: Final = 365 * DAY_MS
# Below a third of the weight nobody comes or goes at a border (docs/spec/ledger.md,
# "Succession"): at weights of one or two micro-FTNS the set would be frozen for good.
OPERATOR_CAP_MIN: Final = 1_000_000
SLASH_BPS_MAX: Final = 5_000  # half of what is bonded, an event
_Ms = Annotated[int, msgspec.Meta(ge=0, le=YEARS_MS)]
_WindowMs = Annotated[int, msgspec.Meta(ge=0, le=WINDOW_MS_MAX)]
_Fee = Annotated[int, msgspec.Meta(ge=0, le=FEE_MAX)]
_Amount = Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX)]


class BadGenesis(LocalError):
    """A genesis document that no network can start from."""

    reason = "bad_genesis"


class Parameters(Record, frozen=True):
    """What all nodes of a network agree on from its first block; later under governance."""

    epoch_ms: Annotated[int, msgspec.Meta(ge=1_000)] = 60_000
    block_gap_min_ms: Annotated[int, msgspec.Meta(ge=0, le=BLOCK_GAP_MS_MAX)] = (
        10  # small blocks cost most; below this they are joined
    )
    heartbeat_block_ms: Annotated[int, msgspec.Meta(ge=100, le=PACE_MS_MAX)] = (
        10_000  # an empty block when idle
    )
    timeout_base_ms: Annotated[int, msgspec.Meta(ge=10, le=PACE_MS_MAX)] = 400
    timeout_cap_ms: Annotated[int, msgspec.Meta(ge=10, le=PACE_MS_MAX)] = 2_000
    clock_window_ms: Annotated[int, msgspec.Meta(ge=100, le=CLOCK_WINDOW_MS_MAX)] = 5_000
    tree_bits: Annotated[int, msgspec.Meta(ge=1, le=20)] = 14
    fee_base: _Fee = 1_000  # micro-FTNS a transaction
    fee_per_byte: Annotated[int, msgspec.Meta(ge=0, le=FEE_PER_BYTE_MAX)] = (
        10  # micro-FTNS a byte of its canonical form
    )
    fee_per_operation: _Fee = 500  # micro-FTNS an operation: a signature checked, an entry made
    treasury_bps: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 500
    escrow_ms_max: _Ms = 86_400_000
    job_keep_ms: _Ms = 604_800_000  # after its deadline the state forgets a closed job
    settle_grace_ms: _WindowMs = 30_000  # so long a bound worker cannot be left out of a settlement
    audit_bps: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 500  # of work nobody compares
    audit_bond_multiple: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 20  # of its price, held
    audit_window_ms: _WindowMs = 60_000  # for an audit or a dispute, from the commitment on
    case_window_ms: _WindowMs = 300_000  # for a committee
    case_deposit: _Amount = 1_000_000  # micro-FTNS who contradicts a result stands for
    pledge_min: _Amount = 1_000_000  # micro-FTNS an auditor has pledged at least
    transaction_ms_max: Annotated[int, msgspec.Meta(ge=TRANSACTION_MS_MIN, le=YEARS_MS)] = (
        86_400_000  # valid_until lies at most this far ahead
    )
    slash_bps: Annotated[int, msgspec.Meta(ge=0, le=SLASH_BPS_MAX)] = 1_000
    reporter_bps: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 500
    halt_bps: Annotated[int, msgspec.Meta(ge=5_000, le=10_000)] = 6_667
    operator_cap: Annotated[int, msgspec.Meta(ge=OPERATOR_CAP_MIN, le=STAKE_TOTAL_MAX)] = (
        STAKE_TOTAL_MAX  # stake of one operator above it is not counted
    )
    unbonding_ms: Annotated[int, msgspec.Meta(ge=0, le=UNBONDING_MS_MAX)] = (
        604_800_000  # evidence convicts, and bonds stay, so long
    )
    stake_min: _Amount = 1_000_000_000  # micro-FTNS a newcomer bonds at least
    proposal_deposit: _Amount = 1_000_000_000  # lost if the vote has no quorum
    vote_min: _Amount = 100_000_000  # weight an elector has at least
    constitutional: Rules = governance.CONSTITUTIONAL
    economic: Rules = governance.ECONOMIC
    technical: Rules = governance.TECHNICAL
    safety: Rules = governance.SAFETY
    operational: Rules = governance.OPERATIONAL
    community: Rules = governance.COMMUNITY
    emergency: Rules = governance.EMERGENCY


class Allocation(Record, frozen=True):
    """A balance that exists before the first block."""

    account: Bytes32
    amount: UInt


class Genesis(Record, frozen=True, gc=True, dict=True):
    """The first document of a network; `dict` is where its digest is kept once computed."""

    version: Annotated[int, msgspec.Meta(ge=GENESIS_VERSION, le=GENESIS_VERSION)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    development: bool  # cheap keys allowed; never for money
    time_ms: Annotated[int, msgspec.Meta(ge=0, le=TIME_MS_MAX)]
    validators: Annotated[
        tuple[Validator, ...], msgspec.Meta(min_length=1, max_length=VALIDATORS_MAX)
    ]
    allocations: Annotated[tuple[Allocation, ...], msgspec.Meta(max_length=GENESIS_ALLOCATIONS_MAX)]
    parameters: Parameters

    @cached_property
    def digest(self) -> Digest:
        """sha256 of the canonical bytes: the name of the network; asked twice for each block."""
        return sha256(encode(self))

    @property
    def chain_id(self) -> bytes:
        """First 8 bytes of the digest; part of everything that is signed."""
        return self.digest[:8]

    @property
    def minted(self) -> Amount:
        """Micro-FTNS that exist at genesis: balances and bonded stake."""
        bonded = sum(validator.stake for validator in self.validators)
        return Amount(bonded + sum(allocation.amount for allocation in self.allocations))

    def first_validators(self) -> ValidatorSet:
        """The set of epoch 0."""
        return self.validators_of(0)

    def validators_of(self, epoch: int) -> ValidatorSet:
        """The members as the set of epoch 0 or 1; stake above `operator_cap` is not counted."""
        cap = self.parameters.operator_cap
        capped = tuple(
            msgspec.structs.replace(validator, stake=min(validator.stake, cap))
            for validator in self.validators
        )
        return ValidatorSet(Members(epoch=epoch, validators=capped))


class _ValidatorText(msgspec.Struct, forbid_unknown_fields=True):
    operator: str
    consensus: str
    peer_id: str
    stake: str


class _AllocationText(msgspec.Struct, forbid_unknown_fields=True):
    account: str
    amount: str


class _GenesisText(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    name: str
    development: bool
    time_ms: int
    validators: list[_ValidatorText]
    allocations: list[_AllocationText]
    parameters: dict[str, int | dict[str, int]]


def to_json(genesis: Genesis) -> bytes:
    """Write the document for people: sorted keys, two spaces, a newline at the end."""
    text = _GenesisText(
        version=genesis.version,
        name=genesis.name,
        development=genesis.development,
        time_ms=genesis.time_ms,
        validators=[
            _ValidatorText(
                address_text(v.operator), address_text(v.consensus), v.peer_id, str(v.stake)
            )
            for v in genesis.validators
        ],
        allocations=[
            _AllocationText(address_text(a.account), str(a.amount)) for a in genesis.allocations
        ],
        parameters={
            name: msgspec.structs.asdict(value) if isinstance(value, Rules) else value
            for name, value in msgspec.structs.asdict(genesis.parameters).items()
        },
    )
    plain = msgspec.json.encode(text, order="sorted")
    return msgspec.json.format(plain, indent=2) + b"\n"


def from_json(raw: bytes) -> Genesis:
    """Read the document and check that a network can start from it.

    Raises:
        BadGenesis: no such JSON, an unknown or missing key, values no network can have, or
            a network of other rules.
    """
    try:
        text = msgspec.json.decode(raw, type=_GenesisText)
        _check_version(text.version)
        genesis = Genesis(
            version=text.version,
            name=text.name,
            development=text.development,
            time_ms=text.time_ms,
            validators=tuple(
                Validator(
                    operator=parse_hex(v.operator, size=32, what="operator key"),
                    consensus=parse_hex(v.consensus, size=32, what="consensus key"),
                    peer_id=v.peer_id,
                    stake=int(v.stake),
                )
                for v in text.validators
            ),
            allocations=tuple(
                Allocation(parse_hex(a.account, size=32, what="account"), int(a.amount))
                for a in text.allocations
            ),
            parameters=_read_parameters(text.parameters),
        )
        # Constructors do not check bounds, decoding does.
        checked = msgspec.msgpack.decode(encode(genesis), type=Genesis)
    except (msgspec.MsgspecError, ValueError, OverflowError, LocalError) as error:
        if isinstance(error, BadGenesis):
            raise
        raise BadGenesis(f"no genesis document: {error}") from error
    check(checked)
    return checked


def _read_parameters(values: Mapping[str, int | dict[str, int]]) -> Parameters:
    """Order named values as the record has them; a category's rules are named too."""
    _check_names(values, Parameters, "")
    listed: list[int | list[int]] = []
    for name in Parameters.__struct_fields__:
        value = values[name]
        if isinstance(value, int):
            listed.append(value)
        else:
            _check_names(value, Rules, f"{name}.")
            listed.append([value[rule] for rule in Rules.__struct_fields__])
    return msgspec.convert(listed, Parameters)


def _check_names(values: Mapping[str, object], shape: type[Record], prefix: str) -> None:
    wrong = sorted(prefix + name for name in set(values) ^ set(shape.__struct_fields__))
    if wrong:
        raise BadGenesis(f"genesis parameters unknown or missing: {', '.join(wrong)}")


def _check_version(version: int) -> None:
    if version != GENESIS_VERSION:
        raise BadGenesis(
            f"a network of version {version}, and this program has the rules of {GENESIS_VERSION}",
            hint="run the program that began it; a development network of one's own begins anew: "
            "prsm destroy, then prsm init --dev",
        )


def check(genesis: Genesis) -> None:
    """Refuse what no network can start from.

    Raises:
        BadGenesis: shared keys, too much money, or parameters that contradict each other.
    """
    for what, keys in (
        ("operator", [v.operator for v in genesis.validators]),
        ("consensus", [v.consensus for v in genesis.validators]),
        ("peer id", [v.peer_id for v in genesis.validators]),
        ("account", [a.account for a in genesis.allocations]),
    ):
        if len(set(keys)) != len(keys):
            raise BadGenesis(f"two entries of the genesis share one {what}")
    if sum(v.stake for v in genesis.validators) > STAKE_TOTAL_MAX or genesis.minted > AMOUNT_MAX:
        raise BadGenesis(f"{genesis.minted} micro-FTNS at genesis, at most {AMOUNT_MAX}")
    wrong = contradiction(genesis.parameters)
    if wrong is not None:
        raise BadGenesis(wrong)


def contradiction(parameters: Parameters) -> str | None:
    """Say which two parameters cannot stand together, None if all can."""
    epochs = parameters.unbonding_ms // parameters.epoch_ms
    if parameters.timeout_cap_ms < parameters.timeout_base_ms:
        return "timeout_cap_ms is below timeout_base_ms"
    if not UNBONDING_EPOCHS_MIN <= epochs <= UNBONDING_EPOCHS_MAX:
        return (
            f"unbonding_ms is {epochs} epochs of epoch_ms, not {UNBONDING_EPOCHS_MIN} to "
            f"{UNBONDING_EPOCHS_MAX}"
        )
    return None
