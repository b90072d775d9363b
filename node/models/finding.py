"""Which model a person means: a CID, or a name with a version, a range or a channel.

Knows: names of the ledger and of this node. Must not know: files. Pure.
"""

from collections.abc import Mapping
from typing import Protocol

from prsm.consensus.ledger.releases import Release, UnknownRelease
from prsm.node.models.records import UnknownModel
from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.semver import BadVersion
from prsm.storage.cid import Cid, decode_cid, parse_cid


class Names(Protocol):
    """The ledger's names; its `View` stands here."""

    def resolve(self, text: str) -> Release:
        """The release that `name`, `name@1.2.0`, `name@^1` or `name@beta` means.

        Raises:
            BadVersion, UnknownRelease, YankedRelease: none.
        """
        ...


def find(ref: str, names: Names, held: Mapping[Cid, ModelManifest]) -> tuple[Cid, Release | None]:
    """The manifest of a reference, and the ledger's word if it was found by name.

    The ledger's word goes before what only this node calls so.

    Args:
        ref: `name`, `name@1.2.0`, `name@^1`, `name@beta`, or a CID.
        names: of the ledger.
        held: models that are here.

    Raises:
        UnknownModel: neither the ledger nor this node knows it.
        YankedRelease: a channel points to a version that was withdrawn.
        BadCid: text that looks like a CID and is none.
    """
    if "@" not in ref and ref.startswith(("baf", "Qm")) and len(ref) > 45:
        return parse_cid(ref), None
    unknown = UnknownModel(
        f"no model is called {ref!r}", hint="see: prsm model ls, or add one: prsm model add"
    )
    try:
        release = names.resolve(ref)
    except BadVersion as error:
        unknown = UnknownModel(f"{ref!r} is no model: {error}", hint="prsm model show NAME@1.0.0")
    except UnknownRelease as error:
        if error.hint:
            unknown = UnknownModel(error.what, hint=error.hint)
    else:
        return decode_cid(release.manifest), release
    local = [cid for cid, m in held.items() if ref in {m.name, f"{m.name}@{m.semver}"}]
    if local:
        return local[-1], None
    raise unknown
