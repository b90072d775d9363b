"""Checks D-20 to D-26: what the running node answers, and what it wrote.

Knows: the answers of two methods. Must not know: how they were asked.
"""

from typing import Final

from prsm.node.doctor.finding import Check, Finding, Patient
from prsm.node.home import Home

_LOG_TAIL_BYTES: Final = 256 * 1024


def _running(patient: Patient) -> Finding:
    if patient.other:
        what = f"it does not run, {patient.other} has the folder"
        return Finding("D-20", "node", "note", what, "wait until that has ended")
    if not patient.running:
        return Finding("D-20", "node", "note", "it does not run", "prsm start --detach")
    if not patient.status:
        what = f"process {patient.running} holds the folder and does not answer"
        return Finding("D-20", "node", "fault", what, "prsm logs, then prsm stop")
    return Finding("D-20", "node", "ok", f"process {patient.running} is {patient.status['state']}")


def _parts(patient: Patient) -> Finding:
    parts = patient.status.get("parts", ())
    broken = [part for part in parts if part["state"] not in {"running", "starting"}]
    if broken:
        what = "; ".join(f"{part['name']} is {part['state']}: {part['why']}" for part in broken)
        return Finding("D-21", "parts", "fault", what, "prsm logs --level error")
    return Finding("D-21", "parts", "ok", f"{len(parts)} run" if parts else "not asked")


def _peers(patient: Patient) -> Finding:
    status, config = patient.status, patient.config
    if not status:
        return Finding("D-22", "peers", "ok", "not asked")
    if not status["peers"] and config is not None and config.net.bootstrap:
        what = f"none of {len(config.net.bootstrap)} bootstrap peers is linked"
        return Finding("D-22", "peers", "fault", what, "prsm net peers, prsm logs --room net")
    if not status["peers"]:
        what = "none: nobody is there who could do a job"
        return Finding("D-22", "peers", "note", what, "prsm help join, or prsm init --dev")
    banned = len(patient.answers.get("net_getPeers", {}).get("banned", ()))
    return Finding("D-22", "peers", "ok", f"{status['peers']} linked, {banned} banned")


def _ledger(patient: Patient) -> Finding:
    status = patient.status
    if not status:
        return Finding("D-23", "ledger", "ok", "not asked")
    what = f"height {status['height']}"
    if status["state"] == "syncing":
        return Finding(
            "D-23", "ledger", "warning", f"{what}, behind the network", "prsm status --wait ready"
        )
    if status["stale"] and not status["offline"]:
        return Finding(
            "D-23", "ledger", "note", f"{what}; the network may know more", "prsm net peers"
        )
    return Finding("D-23", "ledger", "ok", what)


def _wallet(patient: Patient) -> Finding:
    status = patient.status
    if status and not status["wallet_unlocked"]:
        what = "the wallet is locked: nothing can be paid or earned"
        return Finding("D-24", "wallet", "note", what, "prsm wallet unlock")
    return Finding("D-24", "wallet", "ok", "open" if status else "not asked")


def _errors(patient: Patient) -> Finding:
    log = patient.home.log
    if not log.is_file():
        return Finding("D-25", "log", "ok", "no log file")
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    errors = [line for line in lines if '"level": "error"' in line]
    if errors:
        what = f"{len(errors)} errors of late, the last: {errors[-1][:200]}"
        return Finding("D-25", "log", "warning", what, "prsm logs --level error")
    return Finding("D-25", "log", "ok", f"no error in the last {len(lines)} lines")


def _labs(patient: Patient) -> Finding:
    """Those that `prsm init --dev` made beside a node, and that start and end with it."""
    all_of_them = [Home(path.parent) for path in patient.home.root.glob("labs/lab*/VERSION")]
    running = sum(lab.holder() is not None for lab in all_of_them)
    if not all_of_them:
        return Finding("D-26", "labs", "ok", "no development network")
    what = f"{running} of {len(all_of_them)} run"
    if patient.running and running < len(all_of_them):
        return Finding("D-26", "labs", "warning", what, "prsm restart")
    if running and not patient.running:
        return Finding("D-26", "labs", "warning", f"{what}, and the node does not", "prsm stop")
    return Finding("D-26", "labs", "ok", what)


CHECKS: Final[tuple[Check, ...]] = (_running, _parts, _peers, _ledger, _wallet, _errors, _labs)
