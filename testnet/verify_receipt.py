#!/usr/bin/env python3
"""Check the receipt of a job without trusting who wrote it; needs PyNaCl and msgpack only.

    verify_receipt.py --genesis genesis.json receipt.json
    verify_receipt.py --trust EPOCH:VALIDATORS_HASH receipt.json   (its `epoch` is EPOCH)

All else is derived from that trust: each epoch's quorum announced the next epoch's validators; a
quorum signed each header; settlements and the job's record are under their roots; each worker
signed its receipt and had committed it; as many as the terms need agree on every batch that is
paid; payments are those of the terms. Exit 0: all of it holds. Exit 6 and one line: it does not.
"""

import argparse
import hashlib
import json
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgpack
from nacl.signing import VerifyKey

EXIT_REFUSED, COMMIT_VOTE, SETTLE, JUDGE, DONE, SETTLED = 6, 3, 5, 44, 0, 2  # docs/spec/ledger.md
TREASURY: Final = hashlib.sha256(b"prsm1 treasury").digest()
CATEGORIES = "constitutional economic technical safety operational community emergency"
RULES = "quorum_bps threshold_bps voting_ms timelock_ms"
PARAMETERS: Final = (
    "epoch_ms block_gap_min_ms heartbeat_block_ms timeout_base_ms timeout_cap_ms clock_window_ms "
    "tree_bits fee_base fee_per_byte fee_per_operation treasury_bps escrow_ms_max "
    "job_keep_ms settle_grace_ms audit_bps audit_bond_multiple audit_window_ms case_window_ms "
    "case_deposit pledge_min transaction_ms_max slash_bps reporter_bps halt_bps operator_cap "
    "unbonding_ms stake_min proposal_deposit vote_min"
)
DOCUMENT = (
    "version chain_id genesis_digest epoch validators epochs job headers settlements state payments"
)
SETTLEMENT = "unit height transaction transaction_path receipt receipt_path"
Array = tuple[Any, ...]
Json = dict[str, Any]
Members = list[tuple[bytes, bytes, str, int]]  # operator, consensus key, peer id, stake


class Refused(Exception):
    """The document does not prove what it says."""


def require(holds: bool, why: str) -> None:  # noqa: FBT001 - the claim itself
    """Go on only if the claim holds."""
    if not holds:
        raise Refused(why)


def sha256(*parts: bytes) -> bytes:
    """The network's hash."""
    return hashlib.sha256(b"".join(parts)).digest()


def unhex(text: object) -> bytes:
    """Read `0x` and lower-case hex; no other spelling."""
    raw = bytes.fromhex(text[2:]) if isinstance(text, str) else b""
    require("0x" + raw.hex() == text, "bytes in another spelling than 0x hex")
    return raw


def integer(value: int) -> int:
    """Read a JSON integer, no true and no 1.0."""
    require(type(value) is int and value >= 0, f"{value!r} is no integer")
    return value


def keys(value: Json, names: str) -> Json:
    """Read a JSON object with exactly these keys."""
    require(set(value) == set(names.split()), f"an object has not exactly the keys: {names}")
    return value


def unique(pairs: list[tuple[str, object]]) -> Json:
    """Make an object."""
    require(len(dict(pairs)) == len(pairs), "a key stands twice")
    return dict(pairs)


def unpack(raw: bytes) -> Array:
    """Read a canonical msgpack array."""
    value: Array = msgpack.unpackb(raw, use_list=False, strict_map_key=True)
    require(msgpack.packb(value) == raw, "msgpack in another spelling")
    return value


def require_under(root: bytes, item: bytes, path: list[list[str]], what: str) -> None:
    """Follow an audit path of ["left" or "right", sibling] steps."""
    node = sha256(b"\x00", item)
    for side, text in path:
        sibling = unhex(text)
        require(side in {"left", "right"} and len(sibling) == 32, "a path of another form")
        node = sha256(b"\x01", *((sibling, node) if side == "left" else (node, sibling)))
    require(node == root, f"{what} is not under its root")


def members(listed: list[Json]) -> Members:
    """Read validators."""
    found = []
    for entry in listed:
        one = keys(entry, "operator consensus peer_id stake")
        stake = int(one["stake"])
        require(str(stake) == one["stake"] and stake > 0, "a stake in another spelling")
        found.append((unhex(one["operator"]), unhex(one["consensus"]), one["peer_id"], stake))
    return found


def trust_genesis(path: str) -> tuple[bytes, int, bytes]:
    """Derive from a genesis document its digest, the epoch 0 and the hash of its validators."""
    names = "version name development time_ms validators allocations parameters"
    doc = keys(json.loads(Path(path).read_bytes(), object_pairs_hook=unique), names)
    numbers = keys(doc["parameters"], f"{PARAMETERS} {CATEGORIES}")
    found = members(doc["validators"])
    given = [keys(entry, "account amount") for entry in doc["allocations"]]
    head = [doc[name] for name in names.split()[:4]]
    balances = [(unhex(entry["account"]), int(entry["amount"])) for entry in given]
    limits = [integer(numbers[name]) for name in PARAMETERS.split()]
    rules = [keys(numbers[name], RULES) for name in CATEGORIES.split()]
    ruled = [[integer(each[rule]) for rule in RULES.split()] for each in rules]
    counted = [(*member[:3], min(member[3], numbers["operator_cap"])) for member in found]
    digest = sha256(msgpack.packb([*head, found, balances, [*limits, *ruled]]))
    return digest, 0, sha256(msgpack.packb([0, counted]))


class Check:
    """The document, and what has been derived from it."""

    def __init__(self, path: str) -> None:
        raw = Path(path).read_bytes()
        self.doc = keys(json.loads(raw, object_pairs_hook=unique), DOCUMENT)
        self.chain_id, self.job_id = unhex(self.doc["chain_id"]), unhex(self.doc["job"])
        self.headers: dict[int, Array] = {}
        self.sets: dict[int, tuple[bytes, Members]] = {}  # by epoch: hash and members
        self.flows: dict[Array, Array] = {}  # (place, batch) -> input, output, height, is it fed so
        self.payments: Counter[bytes] = Counter()
        self.outvoted: list[Json] = []
        self.cases: list[int] = []  # units a committee ended

    def run(self, digest: bytes | None, epoch: int, trusted: bytes) -> Json:
        """Derive everything from a trusted validator set; returns the summary."""
        doc, named = self.doc, unhex(self.doc["genesis_digest"])
        require(integer(doc["version"]) == 3, "a document of another version")
        require(named[:8] == self.chain_id and len(named) == 32, "chain id of another genesis")
        require(digest in {None, named}, "a receipt of a foreign chain")
        require(integer(doc["epoch"]) == epoch, "a document that begins with another epoch")
        self.enter(epoch, trusted, doc["validators"])
        for entry in doc["epochs"]:
            header = self.check_header(keys(entry, "header certificate validators"))
            require(header[4] == epoch, "epochs out of order")
            epoch += 1
            self.enter(epoch, header[11], entry["validators"])
        for entry in doc["headers"]:
            header = self.check_header(keys(entry, "header certificate"))
            require(header[2] > max(self.headers, default=0), "headers out of order")
            self.headers[header[2]] = header
        used_last = max((header[4] for header in self.headers.values()), default=-1)
        require(epoch == used_last, "epochs nobody needs")
        terms = self.check_state(keys(doc["state"], "height proofs"))
        require(len(doc["settlements"]) == len(terms["units"]), "a unit without its settlement")
        for unit, entry in enumerate(doc["settlements"]):
            self.check_settlement(terms, unit, keys(entry, SETTLEMENT))
        used = {verdict[0] + i for verdict in terms["verdicts"] for i in (0, 1)}
        require(used | {doc["state"]["height"]} == set(self.headers), "headers nobody needs")
        for (*same, stage, batch), (_, wrote, at, _) in self.flows.items():
            read, _, later, is_fed = self.flows.get((*same, stage + 1, batch), (wrote, b"", 0, 0))
            is_excused = is_fed or later <= at  # a reader answers for what was settled before it
            require(read == wrote or is_excused, "a stage that did not read the stage before it")
        paid = [
            {"account": "0x" + account.hex(), "micro_ftns": str(amount)}
            for account, amount in sorted(self.payments.items())
        ]
        require(paid == doc["payments"], "payments the receipts do not derive")
        summary = {"verified": True, "chain_id": doc["chain_id"], "job": doc["job"]}
        summary |= {"units": len(terms["units"]), "rows": sum(terms["rows"]), "payments": paid}
        return summary | {"outvoted": self.outvoted, "by_case": self.cases}

    def enter(self, epoch: int, trusted: bytes, listed: list[Json]) -> None:
        """Believe the members of an epoch, whose hash is trusted or was announced by a quorum."""
        found = members(listed)
        digest = sha256(msgpack.packb([epoch, found]))
        require(digest == trusted, "the validators are not the trusted ones")
        require(len({one[1] for one in found}) == len(found), "a key that stands twice")
        self.sets[epoch] = digest, found

    def check_header(self, entry: Json) -> Array:
        """Check a header's network and set, and a quorum's COMMIT votes on its hash."""
        raw = unhex(entry["header"])
        header, vote, digest = unpack(raw), unpack(unhex(entry["certificate"])), sha256(raw)
        require(len(header) == 15 and header[1] == self.chain_id, "a header of a foreign chain")
        epoch, height = header[4], header[2]
        trusted, members = self.sets.get(epoch, (b"", []))
        require(header[10] == trusted, "a header of another validator set")
        version, kind, voted_epoch, voted_height, view, voted, signers, signatures = vote
        numbers = (version, kind, voted_epoch, voted_height, view, signers)
        require(all(type(number) is int for number in numbers), "a certificate of another form")
        named = (version, kind, voted_epoch, voted_height, voted)
        require(named == (1, COMMIT_VOTE, epoch, height, digest), "a certificate of another block")
        indexes = [i for i in range(len(members)) if signers >> i & 1]
        require(0 <= signers >> len(members) < 1, "a signer outside the set")
        require(len(indexes) == len(signatures), "surplus or missing signatures")
        weight, total = sum(members[i][3] for i in indexes), sum(one[3] for one in members)
        require(weight > 2 * total // 3, f"weight {weight} of {total} is no quorum")
        place = (b"prsm1", self.chain_id, COMMIT_VOTE, epoch, height, view, digest)
        message = struct.pack(">5s8sBIQI32s", *place)
        for i, signature in zip(indexes, signatures, strict=True):
            VerifyKey(members[i][1]).verify(message, signature)
        return header

    def check_state(self, state: Json) -> Json:
        """Prove the job's record and the commitments under one state root; returns the terms."""
        root = self.headers[integer(state["height"])][8]
        require(len(state["proofs"]) == 1, "proofs nobody needs")
        key, bucket, path = unpack(unhex(state["proofs"][0]))
        require(key == b"j" + self.job_id, "a proof of something else")
        node = sha256(b"\x00", msgpack.packb(bucket))
        index = int.from_bytes(sha256(key), "big") >> (256 - len(path))
        for sibling in path:
            require(len(sibling) == 32, "a path of another form")
            node = sha256(b"\x01", *((sibling, node) if index & 1 else (node, sibling)))
            index >>= 1
        require(node == root, "a state entry is not under its root")
        job = unpack(dict(bucket)[key])
        require(job[0] == self.job_id and job[12] == SETTLED, "the job is not settled")
        names = {"requester": job[1], "rows": job[6], "units": job[7], "shares": job[8]}
        return names | {"treasury": job[9], "opened": job[11], "verdicts": job[16], "open": job[17]}

    def check_settlement(self, terms: Json, unit: int, entry: Json) -> None:
        """Tally a unit's receipts again and derive its payments again."""
        raw, became, height = unhex(entry["transaction"]), unhex(entry["receipt"]), entry["height"]
        settled_at, decided, _, _, _, returned, auditor, reward = terms["verdicts"][unit]
        place = (integer(entry["unit"]), integer(height))
        require(place == (unit, settled_at), "settlements out of order")
        require_under(self.headers[height][7], raw, entry["transaction_path"], "a settlement")
        require_under(self.headers[height + 1][9], became, entry["receipt_path"], "an outcome")
        _, chain_id, kind, _, _, fee, payload, _, _ = unpack(raw)
        job, number, *shown = unpack(payload)
        named = (self.chain_id, self.job_id, unit)
        require((chain_id, job, number) == named, "another transaction")
        *_, first, count, needed, price, _, workers = terms["units"][unit]
        reserve = price * sum(terms["rows"][first : first + count]) * len(workers)
        if needed == 1 and (kind == JUDGE or not decided):
            paid, spent = self.by_case(terms, unit, reserve - returned)
        else:
            require(kind == SETTLE, "another transaction")
            paid, spent = self.by_receipts(terms, unit, shown, height)
        require(returned == reserve - spent, "what was returned is not the rest of the reserve")
        if auditor is not None:
            require(0 <= reward <= paid[TREASURY], "more for the auditor than the treasury has")
            paid.update({TREASURY: -reward, auditor: reward})
        expected = (sha256(raw), DONE, fee, tuple(sorted((+paid).items())))
        tx, code, charged, moved, rest, _ = unpack(became)
        require((tx, code, charged, moved) == expected, "the ledger paid something else")
        require(rest >= returned, "the ledger returned less than the rest")
        self.payments.update(+paid)

    def by_case(self, terms: Json, unit: int, gross: int) -> Array:
        """A committee ended the unit, or did not: the record says who was paid."""
        [(worker, _, _, _, wrong, net)] = terms["verdicts"][unit][4]
        paid = parts_of(terms, gross)
        require(net == gross - sum(paid.values()), "the record says something else of the workers")
        require(not (wrong and gross), "a worker that was wrong was paid")
        self.cases.append(unit)
        self.outvoted += [{"worker": "0x" + worker.hex(), "unit": unit}] * wrong
        return paid + Counter({worker: net}), gross

    def by_receipts(self, terms: Json, unit: int, shown: list[Array], height: int) -> Array:
        """The receipts shown decide; returns what they earn, by account, and all of it."""
        receipts, feeds = shown
        works = [self.check_work(terms, unit, receipt, height) for receipt in receipts]
        require(len({work[5] for work in works}) == len(works), "two receipts of one worker")
        *what, first, count, needed, _, _, _ = terms["units"][unit]
        held: dict[int, Counter[Array]] = {i: Counter() for i in range(first, first + count)}
        for index, *stated in (batch for work in works for batch in work[10]):
            held[index][tuple(stated)] += 1
        tops = {index: votes.most_common(1)[0] for index, votes in held.items() if votes}
        right = {index: stated for index, (stated, n) in tops.items() if n >= needed}
        fed = self.check_feeds(terms["requester"], unit, feeds)
        is_torn = any(len(roots) > 1 for roots in fed.values())
        is_enough = bool(right) and (terms["open"] or len(right) == count)
        require(is_torn or is_enough, "too few equal opinions")
        _, decided, _, _, opinions, *_ = terms["verdicts"][unit]
        require(decided == len(right), "the record says something else of the batches")
        for index, (_, before, _, after) in right.items():
            is_fed = is_torn or before in {told for told, _ in fed.get(index, ())}
            self.flows[(*what, index)] = before, after, height, is_fed
        paid, spent, derived = self.derive(terms, unit, works, (right, fed))
        require(derived == opinions, "the record says something else of the workers")
        return paid, spent

    def check_work(self, terms: Json, unit: int, raw: bytes, height: int) -> Array:
        """Check a worker's receipt: terms, signature, commitment; its hash and that stand last."""
        work, digest = unpack(raw), sha256(raw)
        kind, model, stages, stage, first, count, _, price, _, workers = terms["units"][unit]
        named = (2, self.chain_id, self.job_id, unit, kind, model, stages, stage, price)
        require((*work[:5], *work[6:9], work[12]) == named, "a receipt of other terms")
        require(work[5] in workers, "a receipt of no worker of the unit")
        require(work[13] >= terms["opened"], "a receipt of an older escrow")
        rows = {index: terms["rows"][index] for index in range(first, first + count)}
        for index, done, *_ in work[10]:
            locked = rows.pop(index, 0)
            require(0 < done <= locked and (terms["open"] or done == locked), "other batches")
        VerifyKey(work[5]).verify(b"prsm1rc" + msgpack.packb(work[:-1]), work[15])
        bound = {opinion[0]: opinion[2] for opinion in terms["verdicts"][unit][4]}
        require(bound.get(work[5], height) < height, "a receipt that was not committed before")
        return (*work, digest, bound[work[5]])

    def check_feeds(self, requester: bytes, unit: int, feeds: Array) -> dict[int, set[Array]]:
        """What the requester signed as inputs, by batch."""
        fed: dict[int, set[Array]] = {}
        for job, number, batch, before, side, signature in feeds:
            require((job, number) == (self.job_id, unit), "a feed of another unit")
            fields = ("work.feed", self.chain_id, job, number, batch, before, side)
            VerifyKey(requester).verify(b"prsm1gs" + msgpack.packb(fields), signature)
            fed.setdefault(batch, set()).add((before, side))
        return fed

    def derive(self, terms: Json, unit: int, works: list[Array], truth: Array) -> Array:
        """Who is paid what for a unit, the gross of it, and what the record must say."""
        paid: Counter[bytes] = Counter()
        spent, opinions = 0, []
        for work in works:
            wrong, rows = worth(work, *truth)
            gross = 0 if wrong else charge(work, terms["units"][unit], rows)
            parts = parts_of(terms, gross)
            net, spent = gross - sum(parts.values()), spent + gross
            paid.update({**parts, work[5]: parts[work[5]] + net})
            every = sum(batch[1] for batch in work[10])
            opinions.append((work[5], work[16], work[17], every, wrong, net))
            self.outvoted += [{"worker": "0x" + work[5].hex(), "unit": unit}] * bool(wrong)
        return +paid, spent, tuple(opinions)


def parts_of(terms: Json, gross: int) -> Counter[bytes]:
    """The treasury's part and the shares."""
    parts = Counter({TREASURY: gross * terms["treasury"] // 10_000})
    for account, bps in terms["shares"]:
        parts[account] += gross * bps // 10_000
    return parts


def worth(work: Array, right: dict[int, Array], fed: dict[int, set[Array]]) -> tuple[int, int]:
    """How many batches of a receipt are wrong, and how many rows are paid for."""
    is_torn = any(len(roots) > 1 for roots in fed.values())
    wrong = rows = 0
    for index, *stated in work[10]:
        known, given = right.get(index), fed.get(index, set())
        is_differing = len(given) > 1 if known is None else known[1:3] != tuple(stated[1:3])
        is_excused = is_differing and tuple(stated[1:3]) in given
        if known == tuple(stated) or is_excused:
            rows += stated[0]
        elif known is not None or len(given) > 1:
            wrong += 1
        elif is_torn:
            rows += stated[0]
    return wrong, rows


def charge(work: Array, spec: Array, rows: int) -> int:
    """What so many rows cost by the price a row and, where there are rates, what was measured."""
    (price, rates), (cpu_ms, _, bytes_in, bytes_out) = spec[7:9], work[11]
    if rates is None:
        return int(price * rows)
    moved = rates[2] * (bytes_in + bytes_out) // 2**20
    return int(min(price * rows, rates[0] * rows + rates[1] * cpu_ms + moved))


def main() -> int:
    """Check a file; returns the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--genesis", help="genesis.json of the network")
    source.add_argument("--trust", metavar="EPOCH:VALIDATORS_HASH", help="a set one trusts")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("receipt", help="receipt.json")
    args = parser.parse_args()
    try:
        epoch, _, trusted = (args.trust or "0:").partition(":")
        trust = trust_genesis(args.genesis) if args.genesis else (None, int(epoch), unhex(trusted))
        summary = Check(args.receipt).run(*trust)
    except Exception as error:  # noqa: BLE001 - whatever a forged document breaks is a refusal
        why = str(error) if isinstance(error, Refused) else f"its parts do not fit ({error!r})"
        sys.stderr.write(f"refused: {' '.join(why.split())[:200]}\n")
        return EXIT_REFUSED
    lines = [
        f"verified: job {summary['job']}: {summary['units']} units, {summary['rows']} rows",
        *(f"  {p['micro_ftns']:>16} micro-FTNS to {p['account']}" for p in summary["payments"]),
        *(f"  outvoted in unit {p['unit']}, unpaid: {p['worker']}" for p in summary["outvoted"]),
        *(f"  a committee was asked about unit {unit}" for unit in summary["by_case"]),
    ]
    sys.stdout.write((json.dumps(summary) if args.json else "\n".join(lines)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
