"""governance_ in JSON: parameters, a decision from its proposal to its effect, and refusals."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from prsm.node.api.governance import GovernanceApi
from prsm.node.clock import TrioClock
from prsm.node.rpc.methods import governance as api
from prsm.protocol.genesis import Parameters
from prsm.protocol.governance import Rules
from tests.tools.labs import PASSWORD, STAKE
from tests.tools.site import Site, open_site
from tests.unit.node.api.test_validator import bring_keys, committed

QUICK = Rules(2_000, 6_000, 1_000, 500)
DEPOSIT = 1_000_000


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Site]:
    """The home of the only validator, its operator's key open; votes last a second."""
    parameters = Parameters(
        tree_bits=6, proposal_deposit=DEPOSIT, economic=QUICK, community=QUICK, safety=QUICK
    )
    async with open_site(tmp_path, parameters=parameters) as site:
        bring_keys(site, site.cluster.labs[0])
        await site.ask("wallet_unlock", name="operator", password=PASSWORD)
        yield site


async def proposed(site: Site, **params: object) -> Any:  # noqa: ANN401 - any JSON
    """Open a vote and return what is shown of it."""
    sent = await committed(site, "governance_propose", **params)
    return await site.ask("governance_getProposal", proposal=sent["proposal"])


async def fee(site: Site) -> int:
    """What a refund costs."""
    payload = "0x91c420" + "00" * 32
    return int((await site.ask("chain_estimateFee", kind="Refund", payload=payload))["fee"])


async def test_every_method_has_a_handler(member: Site) -> None:
    handlers = GovernanceApi(None, member.parts.driver).handlers()  # type: ignore[arg-type]  # names only
    assert set(handlers) == {method.name for method in api.METHODS}


async def test_parameters_are_shown_as_they_are_now(member: Site) -> None:
    """Texts, because a cap may exceed what JSON's numbers hold."""
    shown = await member.ask("governance_getParameters")
    assert shown["values"]["fee_base"] == "1000"
    assert shown["categories"]["economic"] == {
        "quorum_bps": "2000",
        "threshold_bps": "6000",
        "voting_ms": "1000",
        "timelock_ms": "500",
    }


async def test_a_decision_from_proposal_to_effect(
    member: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proposed, voted, enacted too early, enacted: the fee estimate follows."""
    found = await proposed(member, category="economic", text="cheaper", changes="fee_base=500")
    assert (found["status"], found["would_be"]) == ("open", "no_quorum")
    assert (found["changes"], found["deposit"]) == ({"fee_base": "500"}, str(DEPOSIT))
    proposal = found["proposal"]
    await committed(member, "governance_vote", proposal=proposal, choice="yes")
    found = await member.ask("governance_getProposal", proposal=proposal)
    assert found["would_be"] == "enacted"
    assert found["votes"]["yes"] == found["votes"]["total"] == str(STAKE)
    assert found["electors"][0]["choice"] == "yes"
    assert await member.refused("governance_enact", proposal=proposal) == (-32013, "escrow_state")
    before = int(
        (await member.ask("chain_estimateFee", kind="Refund", payload="0x91c420" + "00" * 32))[
            "fee"
        ]
    )
    wall_ms = TrioClock.wall_ms
    monkeypatch.setattr(TrioClock, "wall_ms", lambda clock: wall_ms(clock) + 2_000)
    await committed(member, "governance_enact", proposal=proposal)
    assert (await member.ask("governance_getParameters"))["values"]["fee_base"] == "500"
    after = int(
        (await member.ask("chain_estimateFee", kind="Refund", payload="0x91c420" + "00" * 32))[
            "fee"
        ]
    )
    assert before - after == 500
    listed = await member.ask("governance_getProposals")
    assert [each["status"] for each in listed["items"]] == ["enacted"]
    assert listed["items"][0]["deposit"] == "0"


async def test_halt_and_text_are_shown(member: Site) -> None:
    cid = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
    found = await proposed(member, category="safety", text="stop it", halt=cid)
    assert found["halt"].startswith("0x01551220")
    assert not found["lift"]
    text = await proposed(member, category="community", text="hello")
    assert (text["halt"], text["changes"]) == (None, {})
    listed = await member.ask("governance_getProposals", limit=1)
    assert [each["text"] for each in listed["items"]] == ["hello"]
    assert listed["more"]


async def test_what_is_no_order_is_refused(member: Site) -> None:
    nobody = "0x" + "00" * 32
    assert await member.refused("governance_getProposal", proposal=nobody) == (-32003, "not_found")
    for method, params in (
        ("governance_vote", {"choice": "no"}),
        ("governance_enact", {}),
    ):
        assert await member.refused(method, proposal=nobody, **params) == (-32003, "not_found")
    for changes in ("fee_base", "fee_base=x", "=5", "a=1,", "fee_base=99999999999999999999"):
        error = await member.error(
            "governance_propose", category="economic", text="x", changes=changes
        )
        assert "is no change" in error["message"]
    many = ",".join(f"fee_{i}=1" for i in range(17))
    error = await member.error("governance_propose", category="economic", text="x", changes=many)
    assert "at most 16" in error["message"]
    refused = await member.refused(
        "governance_propose", category="economic", text="x", changes="tree_bits=9"
    )
    assert refused == (-32602, "transaction_refused")


async def test_delegate_must_be_another_operator(member: Site) -> None:
    reason = (await member.error("governance_delegate", category="community"))["data"]["reason"]
    assert reason == "bond_state"
    refused = await member.refused("governance_delegate", category="community", to="0x" + "11" * 32)
    assert refused == (-32602, "transaction_refused")
