"""Everything one validator ever signed, and what no honest one may have signed.

Knows: signed messages in the order they left. Must not know: how often their signer died between.
"""

from collections import Counter
from dataclasses import dataclass, field

from prsm.consensus.pbft.opened import open_message
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.messages.consensus import SignedMessage, message_digest, statement_of
from prsm.protocol.signing import Kind


@dataclass
class Witness:
    """The memory of all other validators together.

    What others signed is passed on too (a NEW_VIEW answers a late VIEW_CHANGE): it is not counted.
    """

    key: bytes
    chain_id: bytes
    said: dict[tuple[Kind, int, int], bytes] = field(default_factory=dict)
    left: dict[int, int] = field(default_factory=dict)  # height -> highest view gone to
    locked: dict[int, int] = field(default_factory=dict)  # height -> highest view of a COMMIT
    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def hear(self, message: SignedMessage) -> bool:
        """Take a message that left; say whether it is the validator's own and a new one.

        An observer may say again what it said before: the NEW_VIEW of a view answers a late
        VIEW_CHANGE. A fault is a proof against it.
        """
        signed = statement_of(message, message_digest(message.kind, message.body), self.chain_id)
        if not Ed25519Verifier().verify(self.key, signed, message.signature):
            return False
        opened = open_message(message)
        kind, height, view = message.kind, message.height, message.view
        name = f"{kind.name} of height {height}, view {view}"
        is_new = (kind, height, view) not in self.said
        known = self.said.setdefault((kind, height, view), opened.digest)
        if known != opened.digest:
            self.faults.append(f"two different {name}")
        self.kinds[kind.name] += 1
        if kind is Kind.VIEW_CHANGE:
            self.left[height] = max(view, self.left.get(height, 0))
            assert opened.view_change is not None
            prepared = opened.view_change.prepared
            shown = -1 if prepared is None else prepared.view
            if self.locked.get(height, -1) > shown:
                self.faults.append(f"{name} hides what was prepared")
        elif view < self.left.get(height, 0) and kind is not Kind.NEW_VIEW:
            self.faults.append(f"{name} after leaving for view {self.left[height]}")
        if kind is Kind.COMMIT:
            self.locked[height] = max(view, self.locked.get(height, -1))
        return is_new or known != opened.digest
