"""Which methods a tenant may call, and what in their parameters and results is somebody's.

One table. A method that is not in it belongs to the node's operator: a tenant's caller is refused,
so that a new method shows nothing to tenants before somebody has thought about it.

Knows: methods, fields, kinds of things. Must not know: who owns what, how that is kept.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from prsm.node.rpc.methods import models
from prsm.node.rpc.spec import Params

_PREFIX_CHARS: Final = 18  # of a tenant, before the name of its pin


class Kind(StrEnum):
    """What can be somebody's."""

    JOB = "job"
    PLAN = "plan"
    GENERATION = "generation"
    TASK = "task"
    OBJECT = "object"
    PIN = "pin"  # an object's CID, a space, the pin's name
    KEY = "key"


WORK: Final = frozenset(
    (Kind.JOB, Kind.PLAN, Kind.GENERATION)
)  # what a quota of running work counts


@dataclass(frozen=True, slots=True)
class Place:
    """A field that names a thing."""

    kind: Kind
    field: str


@dataclass(frozen=True, slots=True)
class Belonging:
    """What of a call is somebody's.

    Attributes:
        named: field of the parameters; a thing of somebody else is not found.
        made: field of the result: the caller's from then on.
        listed: field of each of the result's `items`; those of others are left out.
        adopted: more things the result names that are the caller's too.
        later: method whose `wait_ms` is used once the thing is the caller's; "": it has none.
        stores: a model its `ref` names is claimed, and its bytes count.
        pins: its `name` is that of a pin, apart for each tenant.
        gives_up: the claim to the model its `ref` names ends.
        leaves: what it names is not the caller's any more if it goes on for others.
    """

    named: Place | None = None
    made: Place | None = None
    listed: Place | None = None
    adopted: Callable[[Any], tuple[str, ...]] = lambda _result: ()
    later: str = ""
    stores: bool = False
    pins: bool = False
    gives_up: bool = False
    leaves: bool = False


def _steps(plan: Any) -> tuple[str, ...]:  # noqa: ANN401 - a plan as methods/plans has it
    return tuple(job for step in plan.steps for job in step.jobs)


_THE_JOB: Final = Belonging(named=Place(Kind.JOB, "job_id"))
_THE_PLAN: Final = Belonging(named=Place(Kind.PLAN, "plan_id"), adopted=_steps)
_THE_TEXT: Final = Belonging(named=Place(Kind.GENERATION, "generation_id"))
_THE_TASK: Final = Belonging(named=Place(Kind.TASK, "task_id"))
_A_TASK: Final = Belonging(made=Place(Kind.TASK, "task_id"))
_JOINED: Final = Place(Kind.TASK, "task")  # a task whose result is waited for, if one is named
_KEY: Final = Belonging(named=Place(Kind.KEY, "name"))

OWNED: Final[Mapping[str, Belonging]] = {
    "infer_run": Belonging(made=Place(Kind.JOB, "job_id"), later="job_get"),
    "job_get": _THE_JOB,
    "job_getResult": _THE_JOB,
    "job_getTrace": _THE_JOB,
    "job_retry": Belonging(named=_THE_JOB.named, made=Place(Kind.JOB, "job_id"), later="job_get"),
    "job_getProof": _THE_JOB,
    "job_cancel": _THE_JOB,
    "job_list": Belonging(listed=Place(Kind.JOB, "job_id")),
    "job_submit": Belonging(made=Place(Kind.PLAN, "plan_id"), adopted=_steps, later="plan_get"),
    "plan_get": _THE_PLAN,
    "plan_cancel": _THE_PLAN,
    "plan_getResult": Belonging(named=Place(Kind.PLAN, "plan_id")),
    "plan_list": Belonging(listed=Place(Kind.PLAN, "plan_id")),
    "infer_getTrace": _THE_TEXT,
    "infer_generate": Belonging(made=Place(Kind.GENERATION, "generation_id")),
    "infer_readTokens": _THE_TEXT,
    "infer_endGeneration": _THE_TEXT,
    "task_get": _THE_TASK,
    "task_cancel": Belonging(named=_THE_TASK.named, leaves=True),
    "task_list": Belonging(listed=Place(Kind.TASK, "task_id")),
    "model_startEvaluate": _A_TASK,
    "model_startVerify": _A_TASK,
    "model_pull": Belonging(named=_JOINED, stores=True),
    "model_startPull": Belonging(made=Place(Kind.TASK, "task_id"), stores=True),
    "model_pin": Belonging(stores=True, pins=True),
    "model_unpin": Belonging(pins=True, gives_up=True),
    "model_remove": Belonging(gives_up=True),
    "model_evaluate": Belonging(named=_JOINED),
    "model_list": Belonging(listed=Place(Kind.OBJECT, "cid")),
    "wallet_createKey": Belonging(made=Place(Kind.KEY, "name")),
    "wallet_listKeys": Belonging(listed=Place(Kind.KEY, "name")),
    **{
        f"wallet_{verb}": _KEY
        for verb in ("unlock", "lock", "sign", "changePassword", "exportKey", "transfer", "approve")
    },
    "wallet_importKey": Belonging(made=Place(Kind.KEY, "name")),
    "wallet_submit": _KEY,
}
# Topics whose rows are somebody's, and what in a row says whose.
HEARD: Final[Mapping[str, Place]] = {
    "jobs": Place(Kind.JOB, "job_id"),
    "tokens": Place(Kind.GENERATION, "job_id"),
    "transfers": Place(Kind.TASK, "task_id"),
    "models": Place(Kind.OBJECT, "cid"),
}
# What shows or does nothing that is somebody's: the ledger, the registry, the caller's own rights.
SHARED: Final = frozenset(
    (
        *("rpc_discover", "rpc_getInfo", "rpc_listErrors", "rpc_ping", "rpc_login"),
        *("sub_subscribe", "sub_unsubscribe", "token_whoami", "spending_get", "tenant_get"),
        # Within their tenant alone, by their own handlers.
        *("token_create", "token_list", "token_revoke", "token_createLogin"),
        *("node_getStatus", "consensus_getState", "consensus_getRound"),
        *("consensus_getValidators", "chain_getStatus", "chain_getSupply", "chain_getBlock"),
        *("chain_getCertified", "chain_getTransaction", "chain_getReceipt", "chain_getProof"),
        *("chain_submitTransaction", "chain_verifyProof", "chain_estimateFee", "chain_getHold"),
        *("chain_getHolds", "governance_getParameters", "governance_getProposal"),
        *("governance_getProposals", "validator_get", "account_getBalance", "account_getNonce"),
        *("account_getStanding", "model_get", "model_search", "model_getCard"),
        *("model_listVersions", "model_listScores", "model_getHealth", "model_getPrompt"),
        *("model_shard", "dataset_list", "infer_plan", "infer_quote"),
        *("serve_run", "serve_warm", "wallet_verify"),
    )
)
assert not SHARED & OWNED.keys()


def own_pin(params: Params, tenant: str) -> tuple[Params, str]:
    """Parameters with the pin's name as it is kept, and that name."""
    name = _pin_prefix(tenant) + getattr(params, "name")  # noqa: B009 - of several structs
    return msgspec.structs.replace(params, name=name), name


def shown_pin(result: Any, pinned: str) -> object:  # noqa: ANN401 - one of several structs
    """The result with the pin's name as its tenant knows it; "" was no pin."""
    return msgspec.structs.replace(result, name=pinned[_PREFIX_CHARS:]) if pinned else result


def for_tenant(result: object, tenant: str) -> object:
    """The result with the tenant's pins alone, by the names it gave them."""
    match result:
        case models.ModelInfo():
            return msgspec.structs.replace(result, pins=own_pins(result.pins, tenant))
        case models.ModelDetail():
            return msgspec.structs.replace(result, model=for_tenant(result.model, tenant))
        case models.Models():
            items = tuple(for_tenant(one, tenant) for one in result.items)
            return msgspec.structs.replace(result, items=items)
        case models.Unpinned():
            return msgspec.structs.replace(result, left=own_pins(result.left, tenant))
        case _:
            return result


def own_pins(pins: tuple[str, ...], tenant: str) -> tuple[str, ...]:
    """Those of the pins that are the tenant's, by the names it gave them."""
    prefix = _pin_prefix(tenant)
    return tuple(pin[_PREFIX_CHARS:] for pin in pins if pin.startswith(prefix))


def _pin_prefix(tenant: str) -> str:
    """What stands before the names of a tenant's pins: no two tenants have the same."""
    return f"t{hashlib.sha256(tenant.encode()).hexdigest()[:16]}."
