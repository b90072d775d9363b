"""Handlers of tenant_ and spending_: who shares this node, and what tokens spend.

Knows: tenants, outlays. Must not know: transports, how tokens are made.
"""

from prsm.node.callers.spending import Spending
from prsm.node.callers.tenants import Tenants
from prsm.node.clock import Clock, utc_text
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.errors import BadParams, Forbidden
from prsm.node.rpc.methods import tenants as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.storage.errors import Conflict, NotFound
from prsm.storage.tenancy import TenantRow


class TenantsApi:
    """Answers about tenants and spending."""

    def __init__(self, tenants: Tenants, spending: Spending, clock: Clock) -> None:
        self._tenants, self._spending, self._clock = tenants, spending, clock

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "tenant_create": self.create,
            "tenant_list": self.list,
            "tenant_get": self.get,
            "tenant_set": self.set,
            "tenant_remove": self.remove,
            "spending_get": self.spending,
        }

    async def create(self, params: api.NewTenantParams, _caller: Caller) -> api.TenantInfo:
        """Make a tenant."""
        if any(row.name == params.name for row in self._tenants.rows()):
            raise Conflict(
                f"tenant {params.name!r} exists",
                hint=f"change it with: prsm tenant set {params.name}",
            )
        now_ms = self._clock.wall_ms()
        row = TenantRow(
            *(params.name, params.running_max, params.storage_bytes_max),
            *(params.calls_per_s, now_ms),
        )
        await self._tenants.put(row)
        return await self._info(params.name)

    async def list(self, _params: NoParams, _caller: Caller) -> api.TenantList:
        """All tenants."""
        rows = self._tenants.rows()
        return api.TenantList(items=tuple([await self._info(row.name) for row in rows]))

    async def get(self, params: api.OwnTenantParams, caller: Caller) -> api.TenantInfo:
        """A tenant; a tenant's caller sees its own alone."""
        name = params.name or caller.tenant
        if not name:
            raise BadParams("this caller is of no tenant: name one", field="name")
        if caller.tenant not in {"", name}:
            raise NotFound(f"no tenant {name!r}", hint="see: prsm tenant ls")
        return await self._info(name)

    async def set(self, params: api.SetTenantParams, _caller: Caller) -> api.TenantInfo:
        """Change quotas."""
        row, _, _ = await self._tenants.usage(params.name)
        await self._tenants.put(
            TenantRow(
                name=row.name,
                running_max=_or(params.running_max, row.running_max),
                storage_bytes_max=_or(params.storage_bytes_max, row.storage_bytes_max),
                calls_per_s=_or(params.calls_per_s, row.calls_per_s),
                made_ms=row.made_ms,
            )
        )
        return await self._info(params.name)

    async def remove(self, params: api.TenantParams, _caller: Caller) -> api.RemovedTenant:
        """Forget a tenant."""
        await self._tenants.remove(params.name)
        return api.RemovedTenant(params.name)

    async def spending(self, params: api.SpendingParams, caller: Caller) -> api.SpendingInfo:
        """What a token spends; a token's caller sees its own alone."""
        token = params.token_id or caller.token_id
        if not token:
            raise BadParams("this caller has no token: name one", field="token_id")
        if caller.token_id and caller.token_id != token:
            raise Forbidden("a token sees what it spends itself, no other")
        sums, limits = await self._spending.sums(token)
        left = sums.left(limits)
        return api.SpendingInfo(
            token_id=token,
            spend_limit=_text(limits.spend_limit),
            daily_cap=_text(limits.daily_cap),
            spent=str(sums.spent),
            held=str(sums.held),
            spent_today=str(sums.today),
            left=_text(left),
        )

    async def _info(self, name: str) -> api.TenantInfo:
        row, running, stored = await self._tenants.usage(name)
        return api.TenantInfo(
            name=name,
            running_max=row.running_max,
            running=running,
            storage_bytes_max=row.storage_bytes_max,
            storage_bytes=stored,
            calls_per_s=row.calls_per_s,
            made=utc_text(row.made_ms),
        )


def _or(given: int | None, kept: int) -> int:
    return kept if given is None else given


def _text(amount: int | None) -> str | None:
    return None if amount is None else str(amount)
