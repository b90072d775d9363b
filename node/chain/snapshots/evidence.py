"""What proves a snapshot: certificates by known sets, and roots under the certified header.

Pure. Knows: headers, sets, lists of chunks. Must not know: peers, disks, rules of the ledger.
Source: docs/spec/storage.md, "Snapshots".
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from prsm.consensus.ledger.chunks import root_of
from prsm.consensus.light import Trust
from prsm.protocol import merkle
from prsm.protocol.certificates import Certificate
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import RemoteError, WireError
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Header, block_hash, is_bound
from prsm.protocol.messages.sync import EpochProof, GetEpochHeaders, Snapshot
from prsm.protocol.proofs import BadProof
from prsm.protocol.validators import Members, ValidatorSet

Shown = tuple[tuple[Certificate, ValidatorSet], ...]


class Sets:
    """The validator sets that are known, by epoch: from one's own chain, or shown step by step."""

    def __init__(self, genesis: Genesis, verifier: Verifier, known: Iterable[ValidatorSet]) -> None:
        """Begin with sets that are believed already."""
        self._base = base = Trust.of_genesis(genesis, verifier)
        self._trusts: dict[int, Trust] = {
            found.epoch: replace(base, validators=found) for found in known
        }
        self.proofs: dict[int, EpochProof] = {}  # that were checked on the way

    def advance(self, known: Sequence[ValidatorSet]) -> bool:
        """Go on from later sets of the own chain: what was shown of earlier epochs is dropped.

        False, and nothing is changed, if what was shown does not lead to the first of them.
        """
        first = known[0].epoch
        trust = self._trusts.get(first)
        if trust is None or trust.validators != known[0]:
            return False
        self._trusts = {epoch: kept for epoch, kept in self._trusts.items() if epoch >= first}
        for found in known:
            self._trusts[found.epoch] = replace(self._base, validators=found)
        self.proofs = {epoch: proof for epoch, proof in self.proofs.items() if epoch >= first}
        return True

    def trust(self, epoch: int) -> Trust | None:
        """Who signs an epoch's blocks, None while that is unknown."""
        return self._trusts.get(epoch)

    def learn(self, proof: EpochProof, following: Members | None) -> None:
        """Believe the set after an epoch: announced in its header, signed by its own set.

        The proof is kept and shown to others, so its members are checked as well.

        Args:
            proof: of an epoch whose set is known.
            following: members of the epoch after, None when nobody showed them.

        Raises:
            BadProof: the header is not certified, or announces another set; or the members shown
                are not those of its epoch.
        """
        header = proof.header
        trust = self._known(header)
        if proof.members != trust.validators.members:
            raise BadProof(f"other members of epoch {header.epoch} than its own", penalty=100)
        try:
            if following is None:
                trust.check_header(header, proof.certificate)
            else:
                self._trusts[header.epoch + 1] = trust.advance(header, proof.certificate, following)
        except RemoteError as error:
            raise _refused(header, error) from error
        self.proofs[header.epoch] = proof

    def check(self, header: Header, certificate: Certificate) -> None:
        """Check that a quorum of the header's epoch committed to it.

        Raises:
            BadProof: it did not, or the epoch's set is unknown.
        """
        try:
            self._known(header).check_header(header, certificate)
        except RemoteError as error:
            raise _refused(header, error) from error

    def _known(self, header: Header) -> Trust:
        found = self._trusts.get(header.epoch)
        if found is None:
            raise BadProof(f"header of epoch {header.epoch}, whose set nobody showed", penalty=100)
        return found


def certificates_in(found: Snapshot, sets: Sets) -> Shown:
    """The certificates of a snapshot that was checked, each with the set that signed it."""
    both = (found.block_certificate, found.certificate)
    trusts = [(each, sets.trust(each.epoch)) for each in both]
    return tuple((each, trust.validators) for each, trust in trusts if trust is not None)


def walk(proofs: Sequence[EpochProof], asked: GetEpochHeaders, target: int, sets: Sets) -> int:
    """Learn set after set from a page of headers.

    Args:
        proofs: as a peer gave them, of successive epochs.
        asked: what it was asked for.
        target: the epoch that leads to what it claims, so it has a header of each one up to it.
        sets: know the set of the first epoch.

    Returns:
        The last epoch whose header was checked.

    Raises:
        BadProof: a header does not hold.
        WireError: it is of another epoch than its place, or some are left out.
    """
    first = asked.first
    for step, proof in enumerate(proofs):
        if proof.header.epoch != first + step:
            raise WireError(f"header of epoch {proof.header.epoch} in another's place", penalty=100)
        following = proofs[step + 1].members if step + 1 < len(proofs) else None
        sets.learn(proof, following)
    # A page is full or reaches the target: else a stranger takes a call for each epoch.
    if len(proofs) < min(asked.count, target - first + 1) or not proofs:
        raise WireError(f"no header of epoch {first + len(proofs)}", penalty=100)
    return first + len(proofs) - 1


def check_snapshot(found: Snapshot, height: int, sets: Sets, *, bits: int) -> None:
    """Check everything about a snapshot but its chunks, which are then checked one by one.

    Args:
        found: as a peer or a file gave it.
        height: that was asked for.
        sets: know the epochs of height and height + 1.
        bits: of the state's tree.

    Raises:
        BadProof: something in it is not what the certificate of height + 1 stands for.
    """
    header, block = found.header, found.block
    if (header.height, block.header.height) != (height + 1, height):
        raise BadProof(f"snapshot of height {block.header.height}, not {height}", penalty=100)
    sets.check(header, found.certificate)
    if block_hash(block.header) != header.prev_hash or not is_bound(block):
        raise BadProof(f"another block {height} than the certified header names", penalty=100)
    sets.check(block.header, found.block_certificate)
    if merkle.root(found.receipts) != header.receipts_root:
        raise BadProof(f"receipts of height {height} that are not under the header", penalty=100)
    # The state *after* a block stands in the header of the next one; its own names the one before.
    if root_of(found.chunks, bits=bits) != header.state_root:
        raise BadProof(f"chunks that are not the state after height {height}", penalty=100)


def _refused(header: Header, error: RemoteError) -> BadProof:
    """A proof that does not hold bans its peer, whatever it is that does not."""
    return BadProof(f"header {header.height}: {error.what}", penalty=100)
