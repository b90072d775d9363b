"""Handlers of audit_: the log of what was told to this node.

Knows: the log and its anchors. Must not know: transports, what is audited.
"""

import msgspec

from prsm.node.callers.audit import AuditLog
from prsm.node.callers.auditing import Anchors
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.errors import BadParams
from prsm.node.rpc.methods import audit as api
from prsm.node.rpc.spec import Caller, NoParams


class AuditApi:
    """Answers about the audit log."""

    def __init__(self, audit: AuditLog, anchors: Anchors) -> None:
        self._audit, self._anchors = audit, anchors

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "audit_list": self.list,
            "audit_verify": self.verify,
            "audit_anchor": self.anchor,
        }

    async def list(self, params: api.AuditListParams, _caller: Caller) -> api.AuditLines:
        """Lines, newest first."""
        before = None
        if params.cursor:
            if not params.cursor.isdecimal() or int(params.cursor) < 1:
                raise BadParams("that cursor is of no page of this list", field="cursor")
            before = int(params.cursor)
        found = await self._audit.newest(params.limit, before=before)
        items = tuple(msgspec.convert(msgspec.to_builtins(one), api.AuditLine) for one in found)
        goes_on = len(found) == params.limit and found[-1].seq > 1
        return api.AuditLines(items, str(found[-1].seq) if goes_on else None)

    async def verify(self, params: api.AuditVerifyParams, _caller: Caller) -> api.AuditVerdict:
        """Follow the chain, and compare it with its anchors."""
        verdict = await self._audit.verify()
        anchors: list[api.AuditAnchor] = []
        if not verdict.broken_at:
            anchors = [
                api.AuditAnchor(a.tx_id, a.seq, a.hash, a.height, a.state, a.why)
                for a in await self._anchors.check(params.tx_ids)
            ]
        # One that the log names and no block has was never agreed on: it says nothing.
        given = set(params.tx_ids)
        doubted = [
            one
            for one in anchors
            if one.state == "differs" or (one.state == "unknown" and one.tx_id in given)
        ]
        return api.AuditVerdict(
            ok=not verdict.broken_at and not doubted,
            first=verdict.first,
            last=verdict.root.seq,
            root=verdict.root.hash,
            broken_at=verdict.broken_at,
            why=verdict.why or (f"{doubted[0].tx_id}: {doubted[0].why}" if doubted else ""),
            anchored=max((one.seq for one in anchors if one.state == "held"), default=0),
            anchors=tuple(anchors),
        )

    async def anchor(self, _params: NoParams, _caller: Caller) -> api.AuditAnchored:
        """Anchor the root now."""
        entry = await self._anchors.anchor()
        return api.AuditAnchored(entry.subject, int(entry.fields["seq"]), entry.fields["hash"])
