"""Another circle of readers for a sealed model: a new ring, no byte sealed anew.

Knows: rings, manifests. Must not know: whose the keys are. Who is taken out and kept the old ring
still opens the files he could read before.
"""

from collections.abc import Sequence

import msgspec
import trio

from prsm.node.models.opening import Opening
from prsm.node.models.records import Tools
from prsm.protocol.errors import LocalError
from prsm.protocol.messages.models import ManifestFile, ModelManifest
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.envelope import (
    RING_NAME,
    Ring,
    add_recipient,
    encode_ring,
    remove_recipient,
)
from prsm.storage.manifest import sign_manifest
from prsm.storage.store.pins import ADDED
from prsm.storage.store.staging import Stage, Staging


class NotSealed(LocalError):
    """A model everybody can read has no readers to change."""

    reason = "invalid_params"


async def share(
    tools: Tools,
    opening: Opening,
    manifest: ModelManifest,
    semver: str,
    *,
    add: Sequence[bytes],
    remove: Sequence[bytes],
) -> tuple[Cid, ModelManifest]:
    """Store a version of a sealed model that others can read, as a whole or not at all.

    Args:
        tools: store and wallet.
        opening: finds the ring.
        manifest: of the model as it is.
        semver: of the new version.
        add: Ed25519 keys that may read it from now on.
        remove: those that may not.

    Raises:
        NotSealed: everybody can read it.
        NotRecipient: this node cannot read it, or somebody removed could not.
        BadEnvelope: the ring was changed.
        WalletLocked: the new manifest needs a signature.
        LocalError: no Ed25519 key, too many readers, or none.
    """
    if not manifest.sealing:
        raise NotSealed(
            f"{manifest.name}@{manifest.semver} is not sealed: everybody can read it",
            hint="seal it when it is added: prsm model add --encrypt-to PEER",
        )
    signer = tools.wallet.signer
    ring, key = await opening.ring(manifest)
    for recipient in add:
        ring = add_recipient(ring, key, recipient)
    for recipient in remove:
        ring = remove_recipient(ring, key, recipient)
    async with Staging(tools.store, tools.scratch).begin() as stage:
        file = await _store_ring(stage, ring)
        changed = sign_manifest(_changed(tools, manifest, semver, file, ring.key_ids), signer)
        cid = await stage.save_manifest(changed)
        await stage.pin(decode_cid(file.root), ADDED, "operator")
    return cid, changed


def _changed(
    tools: Tools,
    manifest: ModelManifest,
    semver: str,
    ring: ManifestFile,
    readers: tuple[bytes, ...],
) -> ModelManifest:
    return msgspec.structs.replace(
        manifest,
        semver=semver,
        files=tuple(ring if one.path == RING_NAME else one for one in manifest.files),
        sealing=readers,
        publisher=tools.wallet.address,
        created_ms=tools.driver.clock.wall_ms(),
        card=None,  # a card is of one version
        signature=None,
    )


async def _store_ring(stage: Stage, ring: Ring) -> ManifestFile:
    path = stage.folder / RING_NAME
    await trio.to_thread.run_sync(path.write_bytes, encode_ring(ring))
    added = await stage.add_file(path)
    return ManifestFile(RING_NAME, added.root.raw, added.size, added.sha256)
