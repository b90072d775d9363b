"""The standalone verifier: it accepts what the ledger did, and sees every change to it."""

import copy
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from prsm.consensus.ledger.errors import EscrowState
from prsm.consensus.ledger.receipt_document import settlement_heights
from prsm.protocol.codec import encode
from prsm.protocol.genesis import Parameters, to_json
from prsm.protocol.governance import Rules
from prsm.protocol.transactions.membership import Stake
from prsm.protocol.transactions.payloads import Share
from prsm.protocol.transactions.results import Code
from prsm.protocol.validators import ValidatorSet
from prsm.testnet import verify_receipt
from prsm.testnet.chain import FTNS, Chain, signer_of, small_genesis
from prsm.testnet.jobs import (
    REQUESTER,
    Work,
    certified,
    commit_of,
    document_of,
    epochs_of,
    lock_of,
    open_job,
    settle_by,
    settle_of,
    unit_of,
)

SCRIPT = Path(__file__).parents[3] / "scripts" / "verify_receipt.py"
Document = dict[str, object]


@cache
def made() -> tuple[Chain, str]:
    """Two stages, a share, a liar in each; a failed attempt stands beside the second settlement.

    Two epochs lie between the settlements; in the last one stakes are others.
    """
    chain = Chain(small_genesis(parameters=Parameters(tree_bits=8, epoch_ms=1_000, stake_min=1)))
    assert chain.send(32, Stake(target=107 * FTNS)).code is Code.DONE
    lock = lock_of(
        "proved",
        unit_of(0, stages=2, price=777),
        unit_of(1, stages=2),
        shares=(Share(account=signer_of(70).public_key, bps=333),),
        budget=500,
    )
    open_job(chain, lock)
    settle_by(chain, lock, Work(65), Work(66, {1: "lie"}), Work(67, only=(1,)))
    works = [Work(65, {0: "x"}), Work(66), Work(67)]
    receipts = [work.receipt(chain, lock, 1) for work in works]
    for work, receipt in zip(works, receipts, strict=True):
        chain.send(work.worker, commit_of(lock, receipt))
    while chain.ledger.epoch.number < 2:
        chain.add()
    transfers = [chain.order(71, lock_of(str(i)), nonce=i) for i in range(3)]
    block = chain.add(
        *transfers,
        chain.order(68, settle_of(lock, 1, receipts[:2])),
        chain.order(REQUESTER, settle_of(lock, 1, receipts)),
        chain.order(69, settle_of(lock, 1, receipts)),
    )
    assert [entry.code for entry in block.receipts()[3:]] == [
        Code.UNDECIDED,
        Code.DONE,
        Code.JOB_CLOSED,
    ]
    return chain, json.dumps(document_of(chain, lock))


def fresh() -> Document:
    document: Document = json.loads(made()[1])
    return document


@pytest.fixture
def genesis_path(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.json"
    path.write_bytes(to_json(made()[0].genesis))
    return path


def judge(text: str, genesis: Path, folder: Path) -> dict[str, object]:
    """Run the verifier's check in this process.

    Raises:
        Exception: whatever ends the script with code 6.
    """
    path = folder / "receipt.json"
    path.write_text(text)
    return verify_receipt.Check(str(path)).run(*verify_receipt.trust_genesis(str(genesis)))


def test_verifier_derives_what_the_ledger_paid(genesis_path: Path, tmp_path: Path) -> None:
    summary = judge(made()[1], genesis_path, tmp_path)
    assert summary["verified"] is True
    assert (summary["units"], summary["rows"]) == (2, 10)
    assert summary["payments"] == fresh()["payments"]
    assert summary["outvoted"] == [
        {"worker": "0x" + signer_of(66).public_key.hex(), "unit": 0},
        {"worker": "0x" + signer_of(65).public_key.hex(), "unit": 1},
    ]


def test_parameters_are_those_of_the_genesis() -> None:
    names = f"{verify_receipt.PARAMETERS} {verify_receipt.CATEGORIES}"
    assert names.split() == list(Parameters.__struct_fields__)
    assert verify_receipt.RULES.split() == list(Rules.__struct_fields__)


def test_script_needs_nothing_of_the_project(genesis_path: Path, tmp_path: Path) -> None:
    """As a person runs it: isolated, no path to the package; exit codes and single lines."""
    path, bad = tmp_path / "receipt.json", tmp_path / "bad.json"
    path.write_text(made()[1])
    bad.write_text(made()[1].replace('"version": 3', '"version": 2'))
    base = [sys.executable, "-I", str(SCRIPT)]
    chain = made()[0]
    trust = f"0:0x{chain.genesis.first_validators().digest.hex()}"
    for arguments in (["--genesis", str(genesis_path)], ["--trust", trust]):
        done = subprocess.run(
            [*base, *arguments, str(path)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("verified: job 0x")
        assert "outvoted in unit 0" in done.stdout
    asked = ["--json", "--genesis", str(genesis_path), str(path)]
    done = subprocess.run([*base, *asked], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["verified"] is True
    for wrong in (
        ["--genesis", str(genesis_path), str(bad)],
        ["--genesis", str(genesis_path), str(tmp_path / "missing.json")],
        ["--trust", "0:0x" + "00" * 32, str(path)],
        ["--trust", trust.replace("0:", "1:", 1), str(path)],
    ):
        done = subprocess.run([*base, *wrong], capture_output=True, text=True, check=False)
        assert done.returncode == 6
        assert done.stdout == ""
        assert done.stderr.startswith("refused: ")
        assert done.stderr.count("\n") == 1
    done = subprocess.run([*base, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2


def test_script_is_short_and_imports_no_more_than_it_says() -> None:
    source = SCRIPT.read_text()
    assert source.count("\n") <= 400
    imported = {
        line.split()[1].split(".")[0]
        for line in source.splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported - set(sys.stdlib_module_names) == {"msgpack", "nacl"}


def leaves(
    value: object, place: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """All scalars of a JSON document with their places."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*place, index))
    else:
        yield place, value


def inside(value: object, place: tuple[str | int, ...]) -> object:
    """The part of a JSON document at a place."""
    for step in place:
        if isinstance(value, dict):
            value = value[step]
        else:
            assert isinstance(value, list)
            assert isinstance(step, int)
            value = value[step]
    return value


def put(document: object, place: tuple[str | int, ...], value: object) -> None:
    holder, step = inside(document, place[:-1]), place[-1]
    if isinstance(holder, dict):
        holder[step] = value
    else:
        assert isinstance(holder, list)
        assert isinstance(step, int)
        holder[step] = value


def is_accepted(document: Document, genesis: Path, folder: Path) -> bool:
    try:
        judge(json.dumps(document), genesis, folder)
    except Exception:  # noqa: BLE001 - the script, too, refuses whatever breaks
        return False
    return True


def spoiled(value: object, dice: random.Random) -> Iterator[object]:
    """Other values for a leaf: flipped digits all over, other types, other spellings."""
    yield None
    if isinstance(value, int):
        yield from (value + 1, value - 1, str(value), float(value), bool(value), [value])
        return
    text = str(value)
    yield from ("", text + "0", text[:-1], [text], 0)
    if text.startswith("0x"):
        yield from (text.upper(), text[2:], "0x " + text[2:])
        spots = {2, 3, len(text) - 1, *(dice.randrange(2, len(text)) for _ in range(12))}
        for spot in sorted(spots):
            flipped = f"{int(text[spot], 16) ^ (1 << dice.randrange(4)):x}"
            yield text[:spot] + flipped + text[spot + 1 :]


@pytest.mark.slow
def test_every_changed_value_is_refused(genesis_path: Path, tmp_path: Path) -> None:
    dice, tried = random.Random(7), 0
    for place, value in list(leaves(fresh())):
        for other in spoiled(value, dice):
            if other == value and type(other) is type(value):
                continue
            document = copy.deepcopy(fresh())
            put(document, place, other)
            tried += 1
            assert not is_accepted(document, genesis_path, tmp_path), (place, value, other)
    assert tried > 500


def objects(value: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict):
        yield place
        for key, inner in value.items():
            yield from objects(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from objects(inner, (*place, index))


@pytest.mark.slow
def test_unknown_and_missing_keys_are_refused_at_every_level(
    genesis_path: Path, tmp_path: Path
) -> None:
    for place in list(objects(fresh())):
        for change in ("add", "remove"):
            document = copy.deepcopy(fresh())
            inner = inside(document, place)
            assert isinstance(inner, dict)
            if change == "add":
                inner["note"] = "x"
            else:
                inner.pop(next(iter(inner)))
            with pytest.raises((verify_receipt.Refused, LookupError, TypeError, AttributeError)):
                judge(json.dumps(document), genesis_path, tmp_path)


@pytest.mark.parametrize("name", ["headers", "settlements", "payments", "validators", "epochs"])
def test_lists_may_not_grow_shrink_or_turn_around(
    name: str, genesis_path: Path, tmp_path: Path
) -> None:
    for change in range(4):
        document = fresh()
        listed = document[name]
        assert isinstance(listed, list)
        changed = [listed[1:], listed[:-1], [*listed, listed[-1]], listed[::-1]][change]
        document[name] = changed
        with pytest.raises((verify_receipt.Refused, LookupError)):
            judge(json.dumps(document), genesis_path, tmp_path)


def test_surplus_proofs_and_headers_are_refused(genesis_path: Path, tmp_path: Path) -> None:
    chain = made()[0]
    document = fresh()
    state = document["state"]
    assert isinstance(state, dict)
    state["proofs"].append("0x" + encode(chain.ledger.prove_certified(b"t")).hex())
    with pytest.raises(verify_receipt.Refused, match="proofs nobody needs"):
        judge(json.dumps(document), genesis_path, tmp_path)
    document = fresh()
    headers = document["headers"]
    assert isinstance(headers, list)
    first = certified(chain, 1)
    surplus = {
        "header": "0x" + encode(first.block.header).hex(),
        "certificate": "0x" + encode(first.certificate).hex(),
    }
    document["headers"] = [surplus, *headers]
    with pytest.raises(verify_receipt.Refused, match="headers nobody needs"):
        judge(json.dumps(document), genesis_path, tmp_path)


def test_trust_in_a_later_epoch_needs_a_document_from_there(tmp_path: Path) -> None:
    """Epoch 1 on: the first settlement lies before it, so such a document is refused."""
    chain = made()[0]
    walk = epochs_of(chain)
    assert [len({member.stake for member in known.members.validators}) for known in walk] == [
        1,
        1,
        2,
    ]
    path = tmp_path / "receipt.json"
    path.write_text(made()[1])
    second = ValidatorSet(walk[1].members)
    with pytest.raises(verify_receipt.Refused, match="begins with another epoch"):
        verify_receipt.Check(str(path)).run(None, 1, second.digest)
    document = fresh()
    steps = document["epochs"]
    assert isinstance(steps, list)
    shorter = {"epoch": 1, "validators": steps[0]["validators"], "epochs": steps[1:]}
    path.write_text(json.dumps(document | shorter))
    with pytest.raises(verify_receipt.Refused, match="another validator set"):
        verify_receipt.Check(str(path)).run(None, 1, second.digest)


def test_epochs_must_be_announced_one_after_the_other(genesis_path: Path, tmp_path: Path) -> None:
    """A step left out, one doubled, the members of one under the announcement of another."""
    chain, walk = made()[0], epochs_of(made()[0])
    document = fresh()
    steps = document["epochs"]
    assert isinstance(steps, list)
    assert len(steps) == 2
    swapped = [{**steps[0], "validators": steps[1]["validators"]}, steps[1]]
    for wrong in ([steps[1]], [steps[0], steps[0]], steps[:1], swapped):
        document["epochs"] = wrong
        with pytest.raises((verify_receipt.Refused, LookupError)):
            judge(json.dumps(document), genesis_path, tmp_path)
    # A header of the right epoch, signed by the members of the one before.
    old = ValidatorSet(walk[0].members)
    assert old.digest != walk[1].header.validators_hash
    forged = chain.certify(walk[1].header, signers=(0, 1))
    document["epochs"] = [steps[0], {**steps[1], "certificate": "0x" + encode(forged).hex()}]
    with pytest.raises(verify_receipt.Refused, match="no quorum"):
        judge(json.dumps(document), genesis_path, tmp_path)


def test_key_twice_is_refused(genesis_path: Path, tmp_path: Path) -> None:
    text = made()[1].replace('"version": 3', '"version": 3, "version": 3')
    with pytest.raises(verify_receipt.Refused, match="stands twice"):
        judge(text, genesis_path, tmp_path)


@pytest.mark.parametrize(
    ("signers", "accepted"), [((0, 1, 2), True), ((1, 2, 3), True), ((0, 3), False), ((), False)]
)
def test_any_quorum_will_do_and_nothing_less(
    signers: tuple[int, ...], accepted: bool, genesis_path: Path, tmp_path: Path
) -> None:
    chain, document = made()[0], fresh()
    headers = document["headers"]
    assert isinstance(headers, list)
    proven = certified(chain, chain.ledger.height)
    other = chain.certify(proven.block.header, signers=signers)
    headers[-1]["certificate"] = "0x" + encode(other).hex()
    if accepted:
        assert judge(json.dumps(document), genesis_path, tmp_path)["verified"] is True
        return
    with pytest.raises(verify_receipt.Refused, match="no quorum"):
        judge(json.dumps(document), genesis_path, tmp_path)


def test_other_networks_receipt_is_refused(genesis_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(to_json(small_genesis(parameters=Parameters(tree_bits=9))))
    with pytest.raises(verify_receipt.Refused, match="foreign chain"):
        judge(made()[1], other, tmp_path)
    spoiled_genesis = genesis_path.read_text().replace('"name"', '"nome"')
    other.write_text(spoiled_genesis)
    with pytest.raises(verify_receipt.Refused, match="exactly the keys"):
        judge(made()[1], other, tmp_path)


def test_document_of_an_open_job_does_not_exist() -> None:
    chain, lock = Chain(small_genesis()), lock_of()
    open_job(chain, lock)
    job = chain.ledger.view.job(lock.job)
    assert job is not None
    with pytest.raises(EscrowState, match="open, not settled"):
        settlement_heights(job)
