"""Which model a person means: `name@version`, a name, or a CID.

Knows: names of the ledger and of this node, versions. Must not know: files. Pure.
"""

from collections.abc import Mapping, Sequence

from prsm.consensus.ledger.records import Model
from prsm.node.models.records import UnknownModel
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.cid import Cid, decode_cid, parse_cid


def find(ref: str, named: Sequence[Model], held: Mapping[Cid, ModelManifest]) -> Cid:
    """The manifest of a reference; the ledger's word goes before what only this node calls so.

    Args:
        ref: `name@version`, a name (its newest version), or a CID.
        named: models of the ledger.
        held: models that are here.

    Raises:
        UnknownModel: neither the ledger nor this node knows it.
        BadCid: text that looks like a CID and is none.
    """
    name, _, semver = ref.partition("@")
    same = sorted((m for m in named if m.name == name), key=lambda model: _version(model.semver))
    if semver:
        same = [model for model in same if model.semver == semver]
    if same:
        return decode_cid(same[-1].manifest)
    local = [cid for cid, m in held.items() if ref in {m.name, f"{m.name}@{m.semver}"}]
    if local:
        return local[-1]
    if not semver and ref.startswith(("baf", "Qm")) and len(ref) > 45:
        return parse_cid(ref)
    raise UnknownModel(
        f"no model is called {ref!r}", hint="see: prsm model ls, or add one: prsm model add"
    )


def _version(semver: str) -> tuple[int, ...]:
    return tuple(int(part) for part in semver.partition("-")[0].split(".") if part.isdecimal())
