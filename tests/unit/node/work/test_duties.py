"""Whose turn an audit is, on the ledger's own draws."""

from types import SimpleNamespace

import msgspec
import pytest

from prsm.node.inference.court import Duty
from prsm.node.work.court import LedgerCourt
from prsm.testnet.chain import signer_of
from prsm.testnet.jobs import Work
from tests.tools.audited import AUDITORS, WORKER, Scene

WINDOW_MS = 60_000


class Seen:
    """One node's look at a scene: its ledger, its account, its clock of blocks."""

    def __init__(self, scene: Scene, number: int) -> None:
        tip = scene.chain.ledger.tip
        driver: object = SimpleNamespace(ledger=scene.chain.ledger, on_head=[])
        account: object = SimpleNamespace(
            address=signer_of(number).public_key, block_time_ms=lambda: tip.time_ms
        )
        self.court = LedgerCourt(driver, account, ())  # type: ignore[arg-type]  # the two it reads

    def duties(self) -> tuple[Duty, ...]:
        return tuple(self.court.duties())


def busy(scene: Scene) -> list[int]:
    """Places in the draw of those who audit now."""
    draw = scene.sampling().draw
    assert draw is not None
    numbers = {bytes(signer_of(number).public_key): number for number in (*AUDITORS, WORKER)}
    return [
        place
        for place, account in enumerate(draw.auditors)
        if Seen(scene, numbers[account]).duties()
    ]


@pytest.fixture
def scene() -> Scene:
    scene = Scene().begin()
    scene.bound()
    return scene


def test_only_the_first_audits_at_once_and_each_further_one_a_quarter_later(scene: Scene) -> None:
    assert busy(scene) == [0]
    scene.chain.add(step_ms=WINDOW_MS // 4)
    assert busy(scene) == [0, 1]
    scene.chain.add(step_ms=WINDOW_MS // 4)
    assert busy(scene) == [0, 1, 2]
    scene.chain.add(step_ms=WINDOW_MS // 2)
    assert busy(scene) == [], "the window is over"


def test_nobody_audits_once_one_was_heard_or_a_case_is_open(scene: Scene) -> None:
    scene.chain.add(step_ms=WINDOW_MS // 2)
    scene.audit()
    assert busy(scene) == []


def test_who_is_not_drawn_has_no_duty(scene: Scene) -> None:
    draw = scene.sampling().draw
    assert draw is not None
    [left] = [n for n in AUDITORS if signer_of(n).public_key not in draw.auditors]
    scene.chain.add(step_ms=WINDOW_MS // 2)
    assert Seen(scene, left).duties() == ()
    assert Seen(scene, WORKER).duties() == ()


def test_a_duty_names_the_batch_the_ledger_drew_of_an_open_ended_unit() -> None:
    """Nobody is asked: the worker said which it did before anything was drawn."""
    lock = msgspec.structs.replace(Scene().lock, is_open_ended=True)
    scene = Scene(lock=lock).begin()
    scene.bound(Work(WORKER, only=(1, 2)))
    found = scene.sampling()
    assert found.draw is not None
    [duty] = Seen(scene, scene.auditor()).duties()
    assert duty.batch == found.batch == (1, 2)[found.draw.number % 2]
    assert duty.until_ms == found.until_ms
