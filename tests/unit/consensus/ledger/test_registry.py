"""Channels, yanks, datasets and cards: who may write what, and what a reference then means."""

import msgspec
import pytest

from prsm.consensus.ledger import registry
from prsm.consensus.ledger.context import ChannelMoved, Registered, YankChanged
from prsm.consensus.ledger.releases import (
    UnknownRelease,
    YankedRelease,
    channels_key,
    lookup,
    resolve,
    yanked_key,
)
from prsm.consensus.light import Trust
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.proofs import ProvenState
from prsm.protocol.semver import BadVersion, Reference
from prsm.protocol.transactions.payloads import Halt, RegisterModel
from prsm.protocol.transactions.registry import (
    CHANNELS_MAX,
    RegisterDataset,
    SetCard,
    SetChannel,
    Yank,
)
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import Chain, signer_of, small_genesis

OWNER, STRANGER = 64, 65


def cid(number: int) -> bytes:
    return bytes.fromhex("01551220") + number.to_bytes(32, "big")


def model(number: int, semver: str = "1.0.0", name: str = "minilm") -> RegisterModel:
    return RegisterModel(
        manifest=cid(number),
        name=name,
        semver=semver,
        pinned_sha256=bytes(32),
        total_bytes=9,
        parents=(),
    )


def dataset(number: int, semver: str = "1.0.0", **changes: object) -> RegisterDataset:
    payload = RegisterDataset(
        manifest=cid(number),
        name="squad",
        semver=semver,
        sha256=bytes(32),
        total_bytes=70,
        rows=10,
        price=5,
        parents=(),
    )
    return msgspec.structs.replace(payload, **changes)


def pointed(channel: str, semver: str | None = "1.0.0", name: str = "minilm") -> SetChannel:
    return SetChannel(name=name, channel=channel, semver=semver)


def yank(semver: str = "1.0.0", *, lift: bool = False, name: str = "minilm") -> Yank:
    return Yank(name=name, semver=semver, lift=lift, reason="wrong weights")


def card(number: int, *, of: int = 1) -> SetCard:
    return SetCard(manifest=cid(of), card=cid(number))


@pytest.fixture
def chain() -> Chain:
    """A name with two releases and two pre-releases, and nothing else."""
    made = Chain(small_genesis())
    for number, semver in enumerate(("1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1"), start=1):
        assert made.send(OWNER, model(number, semver)).code is Code.DONE
    return made


def done(chain: Chain, payload: Record, sender: int = OWNER) -> None:
    assert chain.send(sender, payload).code is Code.DONE


def test_versions_are_listed_by_semver_and_of_their_name_only(chain: Chain) -> None:
    done(chain, model(7, name="minilm2"))
    view = chain.ledger.view
    found = [release.semver for release in view.releases("minilm")]
    assert found == ["1.0.0", "1.9.0", "1.10.0", "2.0.0-rc.1"]
    assert [release.name for release in view.releases("minilm2")] == ["minilm2"]
    assert not view.releases("mini")


@pytest.mark.parametrize(
    ("reference", "semver"),
    [
        ("minilm", "1.10.0"),
        ("minilm@1.9.0", "1.9.0"),
        ("minilm@^1", "1.10.0"),
        ("minilm@1.9", "1.9.0"),
        ("minilm@~1.0", "1.0.0"),
        ("minilm@>=2.0.0-a", "2.0.0-rc.1"),
    ],
)
def test_reference_means_the_newest_that_meets_it(
    chain: Chain, reference: str, semver: str
) -> None:
    assert chain.ledger.view.resolve(reference).semver == semver


def test_name_of_pre_releases_only_means_the_newest_of_them() -> None:
    chain = Chain(small_genesis())
    for number, semver in enumerate(("0.1.0-a", "0.1.0-b.2", "0.1.0-b.11")):
        done(chain, model(number, semver))
    assert chain.ledger.view.resolve("minilm").semver == "0.1.0-b.11"
    with pytest.raises(UnknownRelease, match=r"no version on the ledger meets minilm@\*"):
        chain.ledger.view.resolve("minilm@*")


def test_reference_that_nothing_meets_says_what_there_is(chain: Chain) -> None:
    view = chain.ledger.view
    with pytest.raises(UnknownRelease, match="knows no 'gpt'"):
        view.resolve("gpt@1.0.0")
    for reference, what in (
        ("minilm@3.0.0", "minilm@3.0.0 is not on the ledger"),
        ("minilm@^3", "no version on the ledger meets minilm@^3"),
        ("minilm@beta", "minilm has no channel 'beta'; it has: none"),
    ):
        with pytest.raises(UnknownRelease) as caught:
            view.resolve(reference)
        assert caught.value.what == what
        assert caught.value.hint == "there are: 1.0.0, 1.9.0, 1.10.0, 2.0.0-rc.1"
    with pytest.raises(BadVersion):
        view.resolve("minilm@")


def test_channel_moves_and_a_bare_name_follows_stable(chain: Chain) -> None:
    view = chain.ledger.view
    done(chain, pointed("stable", "1.9.0"))
    assert chain.made[-1].outcome.events == (ChannelMoved("minilm", "stable", "1.9.0"),)
    done(chain, pointed("beta", "2.0.0-rc.1"))
    assert view.channels("minilm") == {"beta": "2.0.0-rc.1", "stable": "1.9.0"}
    assert view.resolve("minilm").semver == "1.9.0"
    assert view.resolve("minilm@beta").semver == "2.0.0-rc.1"
    assert view.resolve("minilm@^1").semver == "1.10.0"
    done(chain, pointed("stable", "1.10.0"))
    assert view.resolve("minilm@stable").semver == "1.10.0"
    done(chain, pointed("stable", None))
    done(chain, pointed("beta", None))
    assert view.channels("minilm") == {}
    assert (channels_key("minilm"), None) in chain.made[-1].outcome.changes


@pytest.mark.parametrize(
    ("sender", "payload", "code"),
    [
        (STRANGER, pointed("stable"), Code.NOT_PUBLISHER),
        (OWNER, pointed("stable", name="nobodys"), Code.NOT_PUBLISHER),
        (OWNER, pointed("Stable"), Code.BAD_CHANNEL),
        (OWNER, pointed("1st"), Code.BAD_CHANNEL),
        (OWNER, pointed("x"), Code.BAD_CHANNEL),
        (OWNER, pointed("stable", "9.9.9"), Code.UNKNOWN_VERSION),
        (OWNER, pointed("stable", "1.9.0"), Code.VERSION_YANKED),
        (OWNER, pointed("beta"), Code.NO_CHANGE),
        (OWNER, pointed("gone", None), Code.NO_CHANGE),
        (STRANGER, yank(), Code.NOT_PUBLISHER),
        (OWNER, yank(name="nobodys"), Code.NOT_PUBLISHER),
        (OWNER, yank("9.9.9"), Code.UNKNOWN_VERSION),
        (OWNER, yank("1.9.0"), Code.NO_CHANGE),
        (OWNER, yank(lift=True), Code.NO_CHANGE),
        (STRANGER, card(9), Code.NOT_PUBLISHER),
        (OWNER, card(9, of=99), Code.UNKNOWN_MANIFEST),
        (OWNER, card(8), Code.NO_CHANGE),
    ],
)
def test_refusal_costs_the_fee_and_changes_nothing(
    chain: Chain, sender: int, payload: Record, code: Code
) -> None:
    for made in (yank("1.9.0"), pointed("beta"), card(8)):
        done(chain, made)
    view = chain.ledger.view
    before = (view.releases("minilm"), view.channels("minilm"))
    assert chain.send(sender, payload).code is code
    assert (view.releases("minilm"), view.channels("minilm")) == before


def test_name_has_at_most_sixteen_channels(chain: Chain) -> None:
    for number in range(CHANNELS_MAX):
        done(chain, pointed(f"c{number}"))
    assert chain.send(OWNER, pointed("more")).code is Code.TOO_MANY_CHANNELS
    done(chain, pointed("c3", "1.9.0"))


def test_yanked_version_is_read_by_its_text_and_never_chosen(chain: Chain) -> None:
    view = chain.ledger.view
    done(chain, yank("1.10.0"))
    assert chain.made[-1].outcome.events == (YankChanged("minilm", "1.10.0", yanked=True),)
    assert view.resolve("minilm").semver == "1.9.0"
    assert view.resolve("minilm@^1").semver == "1.9.0"
    exact = view.resolve("minilm@1.10.0")
    assert (exact.is_yanked, exact.yanked) == (True, "wrong weights")
    done(chain, yank("1.10.0", lift=True))
    assert chain.made[-1].outcome.events == (YankChanged("minilm", "1.10.0", yanked=False),)
    assert (yanked_key("minilm", "1.10.0"), None) in chain.made[-1].outcome.changes
    assert view.resolve("minilm").semver == "1.10.0"


def test_channel_at_a_yanked_version_says_so_instead_of_choosing(chain: Chain) -> None:
    view = chain.ledger.view
    done(chain, pointed("stable", "1.9.0"))
    done(chain, yank("1.9.0"))
    for reference in ("minilm", "minilm@stable"):
        with pytest.raises(YankedRelease, match="wrong weights") as caught:
            view.resolve(reference)
        assert "minilm@1.9.0" in caught.value.hint
    done(chain, pointed("stable", "1.10.0"))
    assert view.resolve("minilm").semver == "1.10.0"


def test_name_whose_versions_were_all_yanked_has_nothing_to_offer(chain: Chain) -> None:
    for semver in ("1.0.0", "1.9.0", "1.10.0", "2.0.0-rc.1"):
        done(chain, yank(semver))
    with pytest.raises(UnknownRelease) as caught:
        chain.ledger.view.resolve("minilm")
    assert caught.value.hint == "every version of it was yanked"


def test_dataset_shares_names_parents_and_refusals_with_models(chain: Chain) -> None:
    view = chain.ledger.view
    assert chain.send(STRANGER, dataset(10, "7.0.0", name="minilm")).code is Code.NAME_TAKEN
    assert chain.send(OWNER, dataset(1)).code is Code.MODEL_EXISTS
    assert chain.send(OWNER, dataset(10, name="minilm")).code is Code.VERSION_EXISTS
    assert chain.send(OWNER, dataset(10, "1.0.x")).code is Code.BAD_NAME
    assert chain.send(OWNER, dataset(10, parents=(cid(99),))).code is Code.UNKNOWN_PARENT
    done(chain, dataset(10), STRANGER)
    assert chain.made[-1].outcome.events == (Registered(cid(10), "squad", "1.0.0"),)
    found = view.dataset_by_cid(cid(10))
    assert found is not None
    assert (found.rows, found.price, found.publisher) == (10, 5, signer_of(STRANGER).public_key)
    assert view.datasets() == [found]
    assert view.resolve("squad").subject == "dataset"
    trained = msgspec.structs.replace(model(11, "3.0.0"), parents=(cid(10), cid(1)))
    done(chain, trained)
    assert chain.send(STRANGER, model(12, "2.0.0", name="squad")).code is Code.DONE
    assert [each.subject for each in view.releases("squad")] == ["dataset", "model"]
    assert view.release_by_cid(cid(99)) is None


def test_first_choice_of_each_name_leaves_out_what_nobody_would_choose(chain: Chain) -> None:
    view = chain.ledger.view
    done(chain, dataset(10), STRANGER)
    found = [(each.name, each.semver) for each in view.first_choices()]
    assert found == [("minilm", "1.10.0"), ("squad", "1.0.0")]
    done(chain, pointed("stable", "1.9.0"))
    assert view.first_choices()[0].semver == "1.9.0"
    done(chain, yank("1.9.0"))
    assert [each.name for each in view.first_choices()] == ["squad"]
    assert chain.send(STRANGER, yank(name="squad")).code is Code.DONE
    assert not view.first_choices()


def test_halted_dataset_is_not_registered(chain: Chain) -> None:
    for operator in (32, 33, 34):
        chain.send(operator, Halt(cid=cid(10), lift=False, reason="unsafe"))
    assert chain.send(OWNER, dataset(10)).code is Code.MODEL_HALTED


def test_card_of_the_ledger_takes_the_manifests_place(chain: Chain) -> None:
    view = chain.ledger.view
    assert view.resolve("minilm@1.0.0").card is None
    done(chain, card(8))
    done(chain, card(9))
    assert view.resolve("minilm@1.0.0").card == cid(9)
    assert view.resolve("minilm@1.9.0").card is None


def test_version_that_is_no_semver_is_not_registered(chain: Chain) -> None:
    """SemVer 2.0.0, item 9: numeric identifiers have no leading zeros."""
    for semver in ("1.0.0-01", "1.0.0-a..b", "1.0.0+"):
        assert chain.send(OWNER, model(20, semver)).code is Code.BAD_NAME


def test_name_has_at_most_so_many_versions(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "VERSIONS_MAX", 5)
    done(chain, model(20, "5.0.0"))
    assert chain.send(OWNER, model(21, "6.0.0")).code is Code.TOO_MANY_VERSIONS
    assert chain.ledger.view.release_by_cid(cid(21)) is None
    done(chain, model(21, "1.0.0", name="another"))


class Stranger:
    """Holds no state: whatever is read must come with a proof under a certified root."""

    def __init__(self, chain: Chain) -> None:
        chain.add()
        self._chain = chain
        self._trust = Trust.of_genesis(chain.genesis, Ed25519Verifier())
        self.asked = 0

    def get(self, key: bytes, /) -> bytes | None:
        self.asked += 1
        proof, tip = self._chain.ledger.prove_certified(key), self._chain.made[-1]
        assert proof is not None
        return self._trust.check_state(
            ProvenState(proof=proof, header=tip.block.header, certificate=tip.certificate)
        )


@pytest.mark.parametrize(
    "reference", ["minilm", "minilm@1.9.0", "minilm@^1", "minilm@beta", "minilm@>=2.0.0-a"]
)
def test_every_reference_is_resolved_by_proofs_alone(chain: Chain, reference: str) -> None:
    """Also that no newer version was left out, which the list of versions shows."""
    done(chain, yank("1.10.0"))
    done(chain, pointed("beta", "1.0.0"))
    stranger = Stranger(chain)
    found = resolve(stranger, Reference.parse(reference))
    assert found == chain.ledger.view.resolve(reference)
    assert stranger.asked <= 9  # of a name with four versions, one of them yanked


def test_absence_is_proven_too(chain: Chain) -> None:
    stranger = Stranger(chain)
    assert lookup(stranger, "minilm", "9.9.9") is None
    for reference in ("gpt", "minilm@^3", "minilm@nightly"):
        with pytest.raises(UnknownRelease):
            resolve(stranger, Reference.parse(reference))


def test_lists_are_in_the_order_of_registration_then_of_names(chain: Chain) -> None:
    view = chain.ledger.view
    done(chain, dataset(91, name="zebra"))
    orders = [chain.order(OWNER, dataset(92, name="yak"))]
    orders.append(
        chain.order(
            OWNER, dataset(93, name="ant"), nonce=view.nonce(signer_of(OWNER).public_key) + 1
        )
    )
    chain.add(*orders)
    assert [each.name for each in view.datasets()][-3:] == ["zebra", "ant", "yak"]


def test_release_of_an_exact_version_or_none(chain: Chain) -> None:
    view = chain.ledger.view
    found = view.release("minilm", "1.9.0")
    assert found is not None
    assert (found.name, found.semver) == ("minilm", "1.9.0")
    assert view.release_by_cid(found.manifest) == found
    assert view.release("minilm", "7.0.0") is None
    assert view.release("gpt", "1.9.0") is None
