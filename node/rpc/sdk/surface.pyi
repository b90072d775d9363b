# Written by scripts/stubs.py from the table of methods.
# ruff: noqa: A002 - names of the table

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Literal

from prsm.node.rpc.methods import audit as _audit
from prsm.node.rpc.methods import care as _care
from prsm.node.rpc.methods import chain as _chain
from prsm.node.rpc.methods import chat as _chat
from prsm.node.rpc.methods import copies as _copies
from prsm.node.rpc.methods import datasets as _datasets
from prsm.node.rpc.methods import deals as _deals
from prsm.node.rpc.methods import evaluations as _evaluations
from prsm.node.rpc.methods import forms as _forms
from prsm.node.rpc.methods import generation as _generation
from prsm.node.rpc.methods import gossip as _gossip
from prsm.node.rpc.methods import governance as _governance
from prsm.node.rpc.methods import intents as _intents
from prsm.node.rpc.methods import keys as _keys
from prsm.node.rpc.methods import ledger as _ledger
from prsm.node.rpc.methods import models as _models
from prsm.node.rpc.methods import net as _net
from prsm.node.rpc.methods import node as _node
from prsm.node.rpc.methods import offers as _offers
from prsm.node.rpc.methods import plans as _plans
from prsm.node.rpc.methods import reach as _reach
from prsm.node.rpc.methods import registry as _registry
from prsm.node.rpc.methods import serving as _serving
from prsm.node.rpc.methods import storage as _storage
from prsm.node.rpc.methods import subscriptions as _subscriptions
from prsm.node.rpc.methods import tasks as _tasks
from prsm.node.rpc.methods import tenants as _tenants
from prsm.node.rpc.methods import tokens as _tokens
from prsm.node.rpc.methods import validator as _validator
from prsm.node.rpc.methods import wallet as _wallet
from prsm.node.rpc.methods import work as _work
from prsm.node.rpc.methods import worker as _worker
from prsm.node.rpc.spec import Method

class _Account:
    def get_balance(
        self, address: str | bytes | None = ..., min_height: int = ...
    ) -> _wallet.Balance: ...
    def get_nonce(
        self, address: str | bytes | None = ..., min_height: int = ...
    ) -> _wallet.Nonce: ...
    def get_standing(
        self, address: str | bytes | None = ..., min_height: int = ...
    ) -> _wallet.Standing: ...

class _Audit:
    def anchor(self, idempotency_key: str = "") -> _audit.AuditAnchored: ...
    def list(
        self, limit: int = ..., cursor: str = ..., idempotency_key: str = ""
    ) -> _audit.AuditLines: ...
    def verify(
        self, tx_ids: Sequence[str | bytes] = ..., idempotency_key: str = ""
    ) -> _audit.AuditVerdict: ...

class _Chain:
    def estimate_fee(
        self,
        raw: str | bytes | None = ...,
        kind: str | None = ...,
        payload: str | bytes | None = ...,
    ) -> _ledger.FeeEstimate: ...
    def get_block(
        self, height: int | None = ..., hash: str | bytes | None = ...
    ) -> _chain.BlockInfo: ...
    def get_certified(self, first: int, last: int | None = ...) -> _chain.CertifiedBlocks: ...
    def get_hold(self, hold: str | bytes) -> _ledger.HoldInfo: ...
    def get_holds(self, address: str | bytes, limit: int = ...) -> _ledger.Holds: ...
    def get_proof(
        self,
        kind: Literal[
            "account",
            "card",
            "channels",
            "dataset",
            "escrow",
            "hold",
            "model",
            "validator",
            "version",
            "versions",
            "yank",
        ],
        key: str | bytes,
        asset: int = ...,
    ) -> _chain.StateProof: ...
    def get_receipt(self, tx_id: str | bytes) -> _chain.TransactionReceipt: ...
    def get_status(self) -> _chain.ChainStatus: ...
    def get_supply(self) -> _chain.Supply: ...
    def get_transaction(self, tx_id: str | bytes) -> _chain.TransactionInfo: ...
    def submit_transaction(
        self, raw: str | bytes, idempotency_key: str = ""
    ) -> _chain.Submitted: ...
    def verify_proof(self, document: Mapping[str, object]) -> _chain.Verified: ...

class _Consensus:
    def get_round(self) -> _chain.Round: ...
    def get_state(self) -> _chain.ConsensusState: ...
    def get_validators(self, epoch: int | None = ...) -> _chain.Validators: ...

class _Dataset:
    def add(
        self,
        path: str,
        name: str,
        semver: str = ...,
        licence: str = ...,
        price: str | int = ...,
        register: bool = ...,
        card: str | None = ...,
        idempotency_key: str = "",
    ) -> _datasets.DatasetInfo: ...
    def list(self, limit: int = ..., cursor: str = ...) -> _datasets.DatasetList: ...

class _Governance:
    def delegate(
        self,
        category: Literal[
            "community",
            "constitutional",
            "economic",
            "emergency",
            "operational",
            "safety",
            "technical",
        ],
        to: str | bytes | None = ...,
        idempotency_key: str = "",
    ) -> _governance.Sent: ...
    def enact(
        self, proposal: str | bytes, name: str = ..., idempotency_key: str = ""
    ) -> _governance.Sent: ...
    def get_parameters(self) -> _governance.Parameters: ...
    def get_proposal(self, proposal: str | bytes) -> _governance.ProposalInfo: ...
    def get_proposals(self, limit: int = ...) -> _governance.Proposals: ...
    def propose(
        self,
        category: Literal[
            "community",
            "constitutional",
            "economic",
            "emergency",
            "operational",
            "safety",
            "technical",
        ],
        text: str,
        changes: str = ...,
        halt: str | None = ...,
        lift: bool = ...,
        name: str = ...,
        idempotency_key: str = "",
    ) -> _governance.Sent: ...
    def vote(
        self,
        proposal: str | bytes,
        choice: Literal["abstain", "no", "yes"],
        idempotency_key: str = "",
    ) -> _governance.Sent: ...

class _Infer:
    def end_generation(
        self, generation_id: str | bytes, idempotency_key: str = ""
    ) -> _generation.GenerationInfo: ...
    def generate(
        self,
        model: str,
        prompt: str,
        max_tokens: int = ...,
        temperature: int = ...,
        top_k: int = ...,
        top_p: int = ...,
        seed: int = ...,
        stages: int = ...,
        home: int = ...,
        local: bool = ...,
        spare: bool = ...,
        replay: Literal["prefill", "steps"] = ...,
        max_price: str | int | None = ...,
        deadline_ms: int = ...,
        idempotency_key: str = "",
    ) -> _generation.GenerationInfo: ...
    def get_trace(self, generation_id: str | bytes) -> _generation.GenerationTrace: ...
    def plan(
        self,
        model: str,
        texts: Sequence[str] | None = ...,
        inputs: Sequence[_work.TensorText | Mapping[str, object]] | None = ...,
        stages: int | None = ...,
        spread: int | None = ...,
        stages_here: int = ...,
        replicas: int = ...,
        redundancy: Literal["1-of-1", "2-of-2", "2-of-3", "3-of-4", "3-of-5", "value"] | None = ...,
        spares: int | None = ...,
        rows_per_batch: int = ...,
        window: int = ...,
        max_price: str | int | None = ...,
        deadline_ms: int = ...,
        wait_ms: int = ...,
        idempotency_key: str = "",
    ) -> _offers.JobPlan: ...
    def quote(
        self, model: str, stages: int = ..., rows: int = ..., idempotency_key: str = ""
    ) -> _offers.QuoteList: ...
    def read_tokens(
        self, generation_id: str | bytes, wait_ms: int = ..., idempotency_key: str = ""
    ) -> _generation.GenerationInfo: ...
    def run(
        self,
        model: str,
        texts: Sequence[str] | None = ...,
        inputs: Sequence[_work.TensorText | Mapping[str, object]] | None = ...,
        stages: int | None = ...,
        spread: int | None = ...,
        stages_here: int = ...,
        replicas: int = ...,
        redundancy: Literal["1-of-1", "2-of-2", "2-of-3", "3-of-4", "3-of-5", "value"] | None = ...,
        spares: int | None = ...,
        rows_per_batch: int = ...,
        window: int = ...,
        max_price: str | int | None = ...,
        deadline_ms: int = ...,
        wait_ms: int = ...,
        idempotency_key: str = "",
    ) -> _work.Job: ...

class _Job:
    def cancel(self, job_id: str | bytes, idempotency_key: str = "") -> _work.Job: ...
    def get(self, job_id: str | bytes, wait_ms: int = ...) -> _work.Job: ...
    def get_proof(self, job_id: str | bytes, epoch: int = ...) -> dict[str, Any]: ...
    def get_result(self, job_id: str | bytes) -> _work.JobResult: ...
    def get_trace(self, job_id: str | bytes) -> _work.JobTrace: ...
    def list(self, limit: int = ..., cursor: str = ...) -> _work.Jobs: ...
    def retry(
        self,
        job_id: str | bytes,
        max_price: str | int | None = ...,
        wait_ms: int = ...,
        idempotency_key: str = "",
    ) -> _work.Job: ...
    def submit(
        self,
        steps: Sequence[_plans.PlanStep | Mapping[str, object]],
        budget: str | int = ...,
        deadline_ms: int = ...,
        wait_ms: int = ...,
        idempotency_key: str = "",
    ) -> _plans.Plan: ...

class _Model:
    def adapt(
        self,
        ref: str,
        adapter: str,
        name: str,
        semver: str = ...,
        licence: str = ...,
        register: bool = ...,
        idempotency_key: str = "",
    ) -> _forms.AdaptedModel: ...
    def add(
        self,
        path: str,
        name: str,
        semver: str = ...,
        stages: Sequence[int] = ...,
        tokenizer: str | None = ...,
        chat_template: Sequence[str] = ...,
        weights: Sequence[str] = ...,
        licence: str = ...,
        register: bool = ...,
        card: str | None = ...,
        encrypt_to: Sequence[str] = ...,
        task: str | None = ...,
        idempotency_key: str = "",
    ) -> _models.ModelInfo: ...
    def evaluate(
        self,
        model: str,
        dataset: str,
        max_price: str | int | None = ...,
        deadline_ms: int = ...,
        task: str | None = ...,
        idempotency_key: str = "",
    ) -> _evaluations.Evaluation: ...
    def get(self, ref: str, offline: bool = ...) -> _models.ModelDetail: ...
    def get_card(self, ref: str, offline: bool = ...) -> _registry.CardInfo: ...
    def get_health(self, model: str | None = ...) -> _serving.ModelHealth: ...
    def get_prompt(
        self,
        model: str,
        messages: Sequence[_chat.ChatMessage | Mapping[str, object]],
        form: Literal["own", "plain"] = ...,
        tools: Sequence[_chat.Tool | Mapping[str, object]] = ...,
    ) -> _chat.PromptText: ...
    def list(self, limit: int = ..., cursor: str = ...) -> _models.Models: ...
    def list_scores(self, ref: str) -> _evaluations.Scores: ...
    def list_versions(self, name: str) -> _registry.Versions: ...
    def make_adaptable(
        self, path: str, out: str, idempotency_key: str = ""
    ) -> _forms.Adaptable: ...
    def open(self, ref: str, offline: bool = ..., idempotency_key: str = "") -> _models.Opened: ...
    def pin(self, ref: str, name: str = ..., idempotency_key: str = "") -> _models.Pinned: ...
    def pull(
        self, ref: str, offline: bool = ..., task: str | None = ..., idempotency_key: str = ""
    ) -> _models.ModelInfo: ...
    def push(
        self, ref: str, offline: bool = ..., task: str | None = ..., idempotency_key: str = ""
    ) -> _models.Pushed: ...
    def quantise(
        self,
        model: str,
        to: Literal["fp16", "int8", "w4", "w8"] = ...,
        out: str | None = ...,
        report: bool = ...,
        samples: str | None = ...,
        tokenizer: str | None = ...,
        idempotency_key: str = "",
    ) -> _forms.Quantised: ...
    def remove(
        self, ref: str, offline: bool = ..., idempotency_key: str = ""
    ) -> _models.Removed: ...
    def rollback(
        self,
        name: str,
        channel: str = ...,
        to: str | None = ...,
        key: str = ...,
        idempotency_key: str = "",
    ) -> _serving.RolledBack: ...
    def search(
        self,
        query: str,
        task: str | None = ...,
        licence: str | None = ...,
        size_max: int | None = ...,
        price_max: str | int | None = ...,
        subject: Literal["dataset", "model"] | None = ...,
        limit: int = ...,
    ) -> _registry.Found: ...
    def set_channel(
        self,
        name: str,
        channel: str,
        semver: str | None = ...,
        key: str = ...,
        idempotency_key: str = "",
    ) -> _registry.Sent: ...
    def shard(
        self,
        ref: str,
        plan: bool = ...,
        rows: int = ...,
        stages: int | None = ...,
        redundancy: int = ...,
        idempotency_key: str = "",
    ) -> _offers.ShardList: ...
    def share(
        self,
        ref: str,
        semver: str,
        add: Sequence[str] = ...,
        remove: Sequence[str] = ...,
        register: bool = ...,
        idempotency_key: str = "",
    ) -> _models.ModelInfo: ...
    def start_add(
        self,
        path: str,
        name: str,
        semver: str = ...,
        stages: Sequence[int] = ...,
        tokenizer: str | None = ...,
        chat_template: Sequence[str] = ...,
        weights: Sequence[str] = ...,
        licence: str = ...,
        register: bool = ...,
        card: str | None = ...,
        encrypt_to: Sequence[str] = ...,
        task: str | None = ...,
        idempotency_key: str = "",
    ) -> _tasks.TaskInfo: ...
    def start_evaluate(
        self,
        model: str,
        dataset: str,
        max_price: str | int | None = ...,
        deadline_ms: int = ...,
        task: str | None = ...,
        idempotency_key: str = "",
    ) -> _tasks.TaskInfo: ...
    def start_pull(
        self, ref: str, offline: bool = ..., idempotency_key: str = ""
    ) -> _tasks.TaskInfo: ...
    def start_push(
        self, ref: str, offline: bool = ..., idempotency_key: str = ""
    ) -> _tasks.TaskInfo: ...
    def start_verify(
        self, ref: str, offline: bool = ..., idempotency_key: str = ""
    ) -> _tasks.TaskInfo: ...
    def unpin(self, ref: str, name: str = ..., idempotency_key: str = "") -> _models.Unpinned: ...
    def verify(
        self, ref: str, offline: bool = ..., task: str | None = ..., idempotency_key: str = ""
    ) -> _models.Verified: ...
    def yank(
        self,
        name: str,
        semver: str,
        why: str = ...,
        lift: bool = ...,
        key: str = ...,
        idempotency_key: str = "",
    ) -> _registry.Sent: ...

class _Net:
    def ban(
        self, peer_id: str, seconds: int = ..., why: str = ..., idempotency_key: str = ""
    ) -> _net.Ban: ...
    def connect(self, address: str, idempotency_key: str = "") -> _node.Connected: ...
    def get_announcements(
        self,
        topic: Literal["blocks", "capacity", "models", "status", "storage"] | None = ...,
        peer_id: str | None = ...,
        limit: int = ...,
    ) -> _gossip.Announcements: ...
    def get_bans(self, limit: int = ..., cursor: str = ...) -> _net.Bans: ...
    def get_delivery(self) -> _gossip.Delivery: ...
    def get_load(self) -> _net.Load: ...
    def get_peers(self, limit: int = ..., cursor: str = ...) -> _node.Peers: ...
    def get_reach(self) -> _reach.ReachState: ...
    def get_topology(self) -> _reach.Topology: ...
    def unban(self, peer_id: str, idempotency_key: str = "") -> _net.Unbanned: ...

class _Node:
    def get_config(self) -> _care.ConfigRows: ...
    def get_health(self) -> _node.Health: ...
    def get_status(self) -> _node.NodeStatus: ...
    def run_doctor(self) -> _care.DoctorReport: ...
    def stop(self, idempotency_key: str = "") -> _node.Stopping: ...

class _Plan:
    def cancel(self, plan_id: str | bytes, idempotency_key: str = "") -> _plans.Plan: ...
    def get(self, plan_id: str | bytes, wait_ms: int = ...) -> _plans.Plan: ...
    def get_result(self, plan_id: str | bytes, step: str = ...) -> _plans.PlanResult: ...
    def list(self, limit: int = ..., cursor: str = ...) -> _plans.Plans: ...

class _Rpc:
    def discover(self) -> dict[str, Any]: ...
    def get_info(self) -> _node.RpcInfo: ...
    def list_errors(self) -> _node.Errors: ...
    def login(self, token: str) -> _subscriptions.LoginInfo: ...
    def ping(self) -> _node.Pong: ...

class _Serve:
    def close(self, tab_id: str | bytes, idempotency_key: str = "") -> _serving.TabInfo: ...
    def list(self, limit: int = ..., cursor: str = ...) -> _serving.ServingState: ...
    def run(
        self,
        model: str,
        texts: Sequence[str] | None = ...,
        inputs: Sequence[_work.TensorText | Mapping[str, object]] | None = ...,
        opinions: int = ...,
        max_price: str | int | None = ...,
        tenant: str = ...,
        fresh: bool = ...,
        wait_ms: int = ...,
        idempotency_key: str = "",
    ) -> _serving.ServedRows: ...
    def warm(
        self, model: str, rows: int = ..., opinions: int = ..., idempotency_key: str = ""
    ) -> _serving.Warmed: ...

class _Spending:
    def get(self, token_id: str | None = ...) -> _tenants.SpendingInfo: ...

class _Storage:
    def accept_deal(self, deal: str | bytes, idempotency_key: str = "") -> _deals.DealSent: ...
    def cancel_intent(self, key: str, idempotency_key: str = "") -> _intents.CancelledIntent: ...
    def export(self, cid: str, path: str, idempotency_key: str = "") -> _storage.ExportedCar: ...
    def gc(
        self, dry_run: bool = ..., partials: bool = ..., idempotency_key: str = ""
    ) -> _storage.Collected: ...
    def get_copies(self) -> _copies.AllCopies: ...
    def get_stats(self) -> _storage.StorageStats: ...
    def import_(self, path: str, idempotency_key: str = "") -> _storage.ImportedCar: ...
    def list_deals(self, mine: bool = ...) -> _deals.Deals: ...
    def list_intents(self) -> _intents.Intents: ...
    def list_pins(self, limit: int = ..., cursor: str = ...) -> _storage.Pins: ...
    def list_sources(self) -> _storage.Sources: ...
    def offer_deal(
        self,
        cid: str,
        holder: str | bytes,
        price: str | int,
        rounds: int,
        collateral: str | int | None = ...,
        idempotency_key: str = "",
    ) -> _deals.Offered: ...
    def release_deal(self, deal: str | bytes, idempotency_key: str = "") -> _deals.DealSent: ...
    def remove(self, cid: str, idempotency_key: str = "") -> _storage.RemovedCar: ...
    def repair(self, ref: str, idempotency_key: str = "") -> _copies.AllCopies: ...
    def scrub(self, task: str | None = ..., idempotency_key: str = "") -> _storage.Scrubbed: ...
    def set_copies(self, ref: str, copies: int, idempotency_key: str = "") -> _copies.AllCopies: ...
    def start_scrub(self, task: str | None = ..., idempotency_key: str = "") -> _tasks.TaskInfo: ...

class _Task:
    def cancel(self, task_id: str, idempotency_key: str = "") -> _tasks.TaskInfo: ...
    def get(self, task_id: str, wait_ms: int = ...) -> _tasks.TaskInfo: ...
    def list(self, limit: int = ..., cursor: str = ...) -> _tasks.TaskList: ...

class _Tenant:
    def create(
        self,
        name: str,
        running_max: int = ...,
        storage_bytes_max: int = ...,
        calls_per_s: int = ...,
        idempotency_key: str = "",
    ) -> _tenants.TenantInfo: ...
    def get(self, name: str | None = ...) -> _tenants.TenantInfo: ...
    def list(self, idempotency_key: str = "") -> _tenants.TenantList: ...
    def remove(self, name: str, idempotency_key: str = "") -> _tenants.RemovedTenant: ...
    def set(
        self,
        name: str,
        running_max: int | None = ...,
        storage_bytes_max: int | None = ...,
        calls_per_s: int | None = ...,
        idempotency_key: str = "",
    ) -> _tenants.TenantInfo: ...

class _Token:
    def create(
        self,
        name: str,
        role: Literal["admin", "observer", "operator", "user"] | None = ...,
        scopes: Sequence[Literal["admin", "read", "sign", "write"]] = ...,
        ttl_s: int | None = ...,
        tenant: str | None = ...,
        methods: Sequence[str] = ...,
        spend_limit: str | int | None = ...,
        daily_cap: str | int | None = ...,
        public_key: str | bytes | None = ...,
        idempotency_key: str = "",
    ) -> _tokens.NewToken: ...
    def create_login(self) -> _tokens.Login: ...
    def list(
        self, limit: int = ..., cursor: str = ..., idempotency_key: str = ""
    ) -> _tokens.TokenList: ...
    def revoke(self, id: str, idempotency_key: str = "") -> _tokens.Revoked: ...
    def rotate_key(self, grace_s: int = ..., idempotency_key: str = "") -> _tokens.Rotated: ...
    def whoami(self) -> _tokens.WhoAmI: ...

class _Validator:
    def get(self, operator: str | bytes | None = ...) -> _validator.Bond: ...
    def join(self, stake: str | int, idempotency_key: str = "") -> _validator.Ordered: ...
    def leave(self, idempotency_key: str = "") -> _validator.Ordered: ...
    def rotate(self, idempotency_key: str = "") -> _validator.Ordered: ...
    def set_stake(self, stake: str | int, idempotency_key: str = "") -> _validator.Ordered: ...
    def withdraw(self, idempotency_key: str = "") -> _validator.Ordered: ...

class _Wallet:
    def approve(
        self, hold: str | bytes, branch: int = ..., name: str = ..., idempotency_key: str = ""
    ) -> _wallet.Approved: ...
    def change_password(
        self, name: str, password: str, new_password: str, idempotency_key: str = ""
    ) -> _wallet.KeyInfo: ...
    def create_key(
        self, name: str, password: str, idempotency_key: str = ""
    ) -> _wallet.KeyInfo: ...
    def export_key(
        self, name: str, password: str, file_password: str | None = ..., idempotency_key: str = ""
    ) -> _keys.ExportedKey: ...
    def import_key(
        self,
        name: str,
        password: str,
        key_file: str | None = ...,
        file_password: str | None = ...,
        seed: str | bytes | None = ...,
        idempotency_key: str = "",
    ) -> _wallet.KeyInfo: ...
    def list_keys(self, limit: int = ..., cursor: str = ...) -> _wallet.Keys: ...
    def lock(self, name: str = ..., idempotency_key: str = "") -> _wallet.KeyInfo: ...
    def sign(
        self, message: str, name: str = ..., hex: bool = ..., idempotency_key: str = ""
    ) -> _keys.SignedMessage: ...
    def submit(
        self, kind: str, payload: Mapping[str, object], name: str = ..., idempotency_key: str = ""
    ) -> _wallet.Submitted: ...
    def transfer(
        self, to: str | bytes, amount: str | int, name: str = ..., idempotency_key: str = ""
    ) -> _wallet.Transferred: ...
    def unlock(
        self, password: str, name: str = ..., ttl_s: int = ..., idempotency_key: str = ""
    ) -> _wallet.Unlocked: ...
    def verify(
        self, message: str, address: str | bytes, signature: str | bytes, hex: bool = ...
    ) -> _keys.VerifiedMessage: ...

class _Worker:
    def drain(
        self, grace_s: int | None = ..., idempotency_key: str = ""
    ) -> _worker.WorkOfferInfo: ...
    def get_earnings(
        self, days: int | None = ..., limit: int = ..., cursor: str = ...
    ) -> _worker.WorkerEarnings: ...
    def get_offer(self) -> _worker.WorkOfferInfo: ...
    def pause(self, idempotency_key: str = "") -> _worker.WorkOfferInfo: ...
    def resume(self, idempotency_key: str = "") -> _worker.WorkOfferInfo: ...
    def set_offer(
        self,
        price: str | int | None = ...,
        units_max: int | None = ...,
        as_configured: bool = ...,
        idempotency_key: str = "",
    ) -> _worker.WorkOfferInfo: ...

class _AsyncAccount:
    async def get_balance(
        self, address: str | bytes | None = ..., min_height: int = ...
    ) -> _wallet.Balance: ...
    async def get_nonce(
        self, address: str | bytes | None = ..., min_height: int = ...
    ) -> _wallet.Nonce: ...
    async def get_standing(
        self, address: str | bytes | None = ..., min_height: int = ...
    ) -> _wallet.Standing: ...

class _AsyncAudit:
    async def anchor(self, idempotency_key: str = "") -> _audit.AuditAnchored: ...
    async def list(
        self, limit: int = ..., cursor: str = ..., idempotency_key: str = ""
    ) -> _audit.AuditLines: ...
    async def verify(
        self, tx_ids: Sequence[str | bytes] = ..., idempotency_key: str = ""
    ) -> _audit.AuditVerdict: ...

class _AsyncChain:
    async def estimate_fee(
        self,
        raw: str | bytes | None = ...,
        kind: str | None = ...,
        payload: str | bytes | None = ...,
    ) -> _ledger.FeeEstimate: ...
    async def get_block(
        self, height: int | None = ..., hash: str | bytes | None = ...
    ) -> _chain.BlockInfo: ...
    async def get_certified(self, first: int, last: int | None = ...) -> _chain.CertifiedBlocks: ...
    async def get_hold(self, hold: str | bytes) -> _ledger.HoldInfo: ...
    async def get_holds(self, address: str | bytes, limit: int = ...) -> _ledger.Holds: ...
    async def get_proof(
        self,
        kind: Literal[
            "account",
            "card",
            "channels",
            "dataset",
            "escrow",
            "hold",
            "model",
            "validator",
            "version",
            "versions",
            "yank",
        ],
        key: str | bytes,
        asset: int = ...,
    ) -> _chain.StateProof: ...
    async def get_receipt(self, tx_id: str | bytes) -> _chain.TransactionReceipt: ...
    async def get_status(self) -> _chain.ChainStatus: ...
    async def get_supply(self) -> _chain.Supply: ...
    async def get_transaction(self, tx_id: str | bytes) -> _chain.TransactionInfo: ...
    async def submit_transaction(
        self, raw: str | bytes, idempotency_key: str = ""
    ) -> _chain.Submitted: ...
    async def verify_proof(self, document: Mapping[str, object]) -> _chain.Verified: ...

class _AsyncConsensus:
    async def get_round(self) -> _chain.Round: ...
    async def get_state(self) -> _chain.ConsensusState: ...
    async def get_validators(self, epoch: int | None = ...) -> _chain.Validators: ...

class _AsyncDataset:
    async def add(
        self,
        path: str,
        name: str,
        semver: str = ...,
        licence: str = ...,
        price: str | int = ...,
        register: bool = ...,
        card: str | None = ...,
        idempotency_key: str = "",
    ) -> _datasets.DatasetInfo: ...
    async def list(self, limit: int = ..., cursor: str = ...) -> _datasets.DatasetList: ...

class _AsyncGovernance:
    async def delegate(
        self,
        category: Literal[
            "community",
            "constitutional",
            "economic",
            "emergency",
            "operational",
            "safety",
            "technical",
        ],
        to: str | bytes | None = ...,
        idempotency_key: str = "",
    ) -> _governance.Sent: ...
    async def enact(
        self, proposal: str | bytes, name: str = ..., idempotency_key: str = ""
    ) -> _governance.Sent: ...
    async def get_parameters(self) -> _governance.Parameters: ...
    async def get_proposal(self, proposal: str | bytes) -> _governance.ProposalInfo: ...
    async def get_proposals(self, limit: int = ...) -> _governance.Proposals: ...
    async def propose(
        self,
        category: Literal[
            "community",
            "constitutional",
            "economic",
            "emergency",
            "operational",
            "safety",
            "technical",
        ],
        text: str,
        changes: str = ...,
        halt: str | None = ...,
        lift: bool = ...,
        name: str = ...,
        idempotency_key: str = "",
    ) -> _governance.Sent: ...
    async def vote(
        self,
        proposal: str | bytes,
        choice: Literal["abstain", "no", "yes"],
        idempotency_key: str = "",
    ) -> _governance.Sent: ...

class _AsyncInfer:
    async def end_generation(
        self, generation_id: str | bytes, idempotency_key: str = ""
    ) -> _generation.GenerationInfo: ...
    async def generate(
        self,
        model: str,
        prompt: str,
        max_tokens: int = ...,
        temperature: int = ...,
        top_k: int = ...,
        top_p: int = ...,
        seed: int = ...,
        stages: int = ...,
        home: int = ...,
        local: bool = ...,
        spare: bool = ...,
        replay: Literal["prefill", "steps"] = ...,
        max_price: str | int | None = ...,
        deadline_ms: int = ...,
        idempotency_key: str = "",
    ) -> _generation.GenerationInfo: ...
    async def get_trace(self, generation_id: str | bytes) -> _generation.GenerationTrace: ...
    async def plan(
        self,
        model: str,
        texts: Sequence[str] | None = ...,
        inputs: Sequence[_work.TensorText | Mapping[str, object]] | None = ...,
        stages: int | None = ...,
        spread: int | None = ...,
        stages_here: int = ...,
        replicas: int = ...,
        redundancy: Literal["1-of-1", "2-of-2", "2-of-3", "3-of-4", "3-of-5", "value"] | None = ...,
        spares: int | None = ...,
        rows_per_batch: int = ...,
        window: int = ...,
        max_price: str | int | None = ...,
        deadline_ms: int = ...,
        wait_ms: int = ...,
        idempotency_key: str = "",
    ) -> _offers.JobPlan: ...
    async def quote(
        self, model: str, stages: int = ..., rows: int = ..., idempotency_key: str = ""
    ) -> _offers.QuoteList: ...
    async def read_tokens(
        self, generation_id: str | bytes, wait_ms: int = ..., idempotency_key: str = ""
    ) -> _generation.GenerationInfo: ...
    async def run(
        self,
        model: str,
        texts: Sequence[str] | None = ...,
        inputs: Sequence[_work.TensorText | Mapping[str, object]] | None = ...,
        stages: int | None = ...,
        spread: int | None = ...,
        stages_here: int = ...,
        replicas: int = ...,
        redundancy: Literal["1-of-1", "2-of-2", "2-of-3", "3-of-4", "3-of-5", "value"] | None = ...,
        spares: int | None = ...,
        rows_per_batch: int = ...,
        window: int = ...,
        max_price: str | int | None = ...,
        deadline_ms: int = ...,
        wait_ms: int = ...,
        idempotency_key: str = "",
    ) -> _work.Job: ...

class _AsyncJob:
    async def cancel(self, job_id: str | bytes, idempotency_key: str = "") -> _work.Job: ...
    async def get(self, job_id: str | bytes, wait_ms: int = ...) -> _work.Job: ...
    async def get_proof(self, job_id: str | bytes, epoch: int = ...) -> dict[str, Any]: ...
    async def get_result(self, job_id: str | bytes) -> _work.JobResult: ...
    async def get_trace(self, job_id: str | bytes) -> _work.JobTrace: ...
    async def list(self, limit: int = ..., cursor: str = ...) -> _work.Jobs: ...
    async def retry(
        self,
        job_id: str | bytes,
        max_price: str | int | None = ...,
        wait_ms: int = ...,
        idempotency_key: str = "",
    ) -> _work.Job: ...
    async def submit(
        self,
        steps: Sequence[_plans.PlanStep | Mapping[str, object]],
        budget: str | int = ...,
        deadline_ms: int = ...,
        wait_ms: int = ...,
        idempotency_key: str = "",
    ) -> _plans.Plan: ...

class _AsyncModel:
    async def adapt(
        self,
        ref: str,
        adapter: str,
        name: str,
        semver: str = ...,
        licence: str = ...,
        register: bool = ...,
        idempotency_key: str = "",
    ) -> _forms.AdaptedModel: ...
    async def add(
        self,
        path: str,
        name: str,
        semver: str = ...,
        stages: Sequence[int] = ...,
        tokenizer: str | None = ...,
        chat_template: Sequence[str] = ...,
        weights: Sequence[str] = ...,
        licence: str = ...,
        register: bool = ...,
        card: str | None = ...,
        encrypt_to: Sequence[str] = ...,
        task: str | None = ...,
        idempotency_key: str = "",
    ) -> _models.ModelInfo: ...
    async def evaluate(
        self,
        model: str,
        dataset: str,
        max_price: str | int | None = ...,
        deadline_ms: int = ...,
        task: str | None = ...,
        idempotency_key: str = "",
    ) -> _evaluations.Evaluation: ...
    async def get(self, ref: str, offline: bool = ...) -> _models.ModelDetail: ...
    async def get_card(self, ref: str, offline: bool = ...) -> _registry.CardInfo: ...
    async def get_health(self, model: str | None = ...) -> _serving.ModelHealth: ...
    async def get_prompt(
        self,
        model: str,
        messages: Sequence[_chat.ChatMessage | Mapping[str, object]],
        form: Literal["own", "plain"] = ...,
        tools: Sequence[_chat.Tool | Mapping[str, object]] = ...,
    ) -> _chat.PromptText: ...
    async def list(self, limit: int = ..., cursor: str = ...) -> _models.Models: ...
    async def list_scores(self, ref: str) -> _evaluations.Scores: ...
    async def list_versions(self, name: str) -> _registry.Versions: ...
    async def make_adaptable(
        self, path: str, out: str, idempotency_key: str = ""
    ) -> _forms.Adaptable: ...
    async def open(
        self, ref: str, offline: bool = ..., idempotency_key: str = ""
    ) -> _models.Opened: ...
    async def pin(self, ref: str, name: str = ..., idempotency_key: str = "") -> _models.Pinned: ...
    async def pull(
        self, ref: str, offline: bool = ..., task: str | None = ..., idempotency_key: str = ""
    ) -> _models.ModelInfo: ...
    async def push(
        self, ref: str, offline: bool = ..., task: str | None = ..., idempotency_key: str = ""
    ) -> _models.Pushed: ...
    async def quantise(
        self,
        model: str,
        to: Literal["fp16", "int8", "w4", "w8"] = ...,
        out: str | None = ...,
        report: bool = ...,
        samples: str | None = ...,
        tokenizer: str | None = ...,
        idempotency_key: str = "",
    ) -> _forms.Quantised: ...
    async def remove(
        self, ref: str, offline: bool = ..., idempotency_key: str = ""
    ) -> _models.Removed: ...
    async def rollback(
        self,
        name: str,
        channel: str = ...,
        to: str | None = ...,
        key: str = ...,
        idempotency_key: str = "",
    ) -> _serving.RolledBack: ...
    async def search(
        self,
        query: str,
        task: str | None = ...,
        licence: str | None = ...,
        size_max: int | None = ...,
        price_max: str | int | None = ...,
        subject: Literal["dataset", "model"] | None = ...,
        limit: int = ...,
    ) -> _registry.Found: ...
    async def set_channel(
        self,
        name: str,
        channel: str,
        semver: str | None = ...,
        key: str = ...,
        idempotency_key: str = "",
    ) -> _registry.Sent: ...
    async def shard(
        self,
        ref: str,
        plan: bool = ...,
        rows: int = ...,
        stages: int | None = ...,
        redundancy: int = ...,
        idempotency_key: str = "",
    ) -> _offers.ShardList: ...
    async def share(
        self,
        ref: str,
        semver: str,
        add: Sequence[str] = ...,
        remove: Sequence[str] = ...,
        register: bool = ...,
        idempotency_key: str = "",
    ) -> _models.ModelInfo: ...
    async def start_add(
        self,
        path: str,
        name: str,
        semver: str = ...,
        stages: Sequence[int] = ...,
        tokenizer: str | None = ...,
        chat_template: Sequence[str] = ...,
        weights: Sequence[str] = ...,
        licence: str = ...,
        register: bool = ...,
        card: str | None = ...,
        encrypt_to: Sequence[str] = ...,
        task: str | None = ...,
        idempotency_key: str = "",
    ) -> _tasks.TaskInfo: ...
    async def start_evaluate(
        self,
        model: str,
        dataset: str,
        max_price: str | int | None = ...,
        deadline_ms: int = ...,
        task: str | None = ...,
        idempotency_key: str = "",
    ) -> _tasks.TaskInfo: ...
    async def start_pull(
        self, ref: str, offline: bool = ..., idempotency_key: str = ""
    ) -> _tasks.TaskInfo: ...
    async def start_push(
        self, ref: str, offline: bool = ..., idempotency_key: str = ""
    ) -> _tasks.TaskInfo: ...
    async def start_verify(
        self, ref: str, offline: bool = ..., idempotency_key: str = ""
    ) -> _tasks.TaskInfo: ...
    async def unpin(
        self, ref: str, name: str = ..., idempotency_key: str = ""
    ) -> _models.Unpinned: ...
    async def verify(
        self, ref: str, offline: bool = ..., task: str | None = ..., idempotency_key: str = ""
    ) -> _models.Verified: ...
    async def yank(
        self,
        name: str,
        semver: str,
        why: str = ...,
        lift: bool = ...,
        key: str = ...,
        idempotency_key: str = "",
    ) -> _registry.Sent: ...

class _AsyncNet:
    async def ban(
        self, peer_id: str, seconds: int = ..., why: str = ..., idempotency_key: str = ""
    ) -> _net.Ban: ...
    async def connect(self, address: str, idempotency_key: str = "") -> _node.Connected: ...
    async def get_announcements(
        self,
        topic: Literal["blocks", "capacity", "models", "status", "storage"] | None = ...,
        peer_id: str | None = ...,
        limit: int = ...,
    ) -> _gossip.Announcements: ...
    async def get_bans(self, limit: int = ..., cursor: str = ...) -> _net.Bans: ...
    async def get_delivery(self) -> _gossip.Delivery: ...
    async def get_load(self) -> _net.Load: ...
    async def get_peers(self, limit: int = ..., cursor: str = ...) -> _node.Peers: ...
    async def get_reach(self) -> _reach.ReachState: ...
    async def get_topology(self) -> _reach.Topology: ...
    async def unban(self, peer_id: str, idempotency_key: str = "") -> _net.Unbanned: ...

class _AsyncNode:
    async def get_config(self) -> _care.ConfigRows: ...
    async def get_health(self) -> _node.Health: ...
    async def get_status(self) -> _node.NodeStatus: ...
    async def run_doctor(self) -> _care.DoctorReport: ...
    async def stop(self, idempotency_key: str = "") -> _node.Stopping: ...

class _AsyncPlan:
    async def cancel(self, plan_id: str | bytes, idempotency_key: str = "") -> _plans.Plan: ...
    async def get(self, plan_id: str | bytes, wait_ms: int = ...) -> _plans.Plan: ...
    async def get_result(self, plan_id: str | bytes, step: str = ...) -> _plans.PlanResult: ...
    async def list(self, limit: int = ..., cursor: str = ...) -> _plans.Plans: ...

class _AsyncRpc:
    async def discover(self) -> dict[str, Any]: ...
    async def get_info(self) -> _node.RpcInfo: ...
    async def list_errors(self) -> _node.Errors: ...
    async def login(self, token: str) -> _subscriptions.LoginInfo: ...
    async def ping(self) -> _node.Pong: ...

class _AsyncServe:
    async def close(self, tab_id: str | bytes, idempotency_key: str = "") -> _serving.TabInfo: ...
    async def list(self, limit: int = ..., cursor: str = ...) -> _serving.ServingState: ...
    async def run(
        self,
        model: str,
        texts: Sequence[str] | None = ...,
        inputs: Sequence[_work.TensorText | Mapping[str, object]] | None = ...,
        opinions: int = ...,
        max_price: str | int | None = ...,
        tenant: str = ...,
        fresh: bool = ...,
        wait_ms: int = ...,
        idempotency_key: str = "",
    ) -> _serving.ServedRows: ...
    async def warm(
        self, model: str, rows: int = ..., opinions: int = ..., idempotency_key: str = ""
    ) -> _serving.Warmed: ...

class _AsyncSpending:
    async def get(self, token_id: str | None = ...) -> _tenants.SpendingInfo: ...

class _AsyncStorage:
    async def accept_deal(
        self, deal: str | bytes, idempotency_key: str = ""
    ) -> _deals.DealSent: ...
    async def cancel_intent(
        self, key: str, idempotency_key: str = ""
    ) -> _intents.CancelledIntent: ...
    async def export(
        self, cid: str, path: str, idempotency_key: str = ""
    ) -> _storage.ExportedCar: ...
    async def gc(
        self, dry_run: bool = ..., partials: bool = ..., idempotency_key: str = ""
    ) -> _storage.Collected: ...
    async def get_copies(self) -> _copies.AllCopies: ...
    async def get_stats(self) -> _storage.StorageStats: ...
    async def import_(self, path: str, idempotency_key: str = "") -> _storage.ImportedCar: ...
    async def list_deals(self, mine: bool = ...) -> _deals.Deals: ...
    async def list_intents(self) -> _intents.Intents: ...
    async def list_pins(self, limit: int = ..., cursor: str = ...) -> _storage.Pins: ...
    async def list_sources(self) -> _storage.Sources: ...
    async def offer_deal(
        self,
        cid: str,
        holder: str | bytes,
        price: str | int,
        rounds: int,
        collateral: str | int | None = ...,
        idempotency_key: str = "",
    ) -> _deals.Offered: ...
    async def release_deal(
        self, deal: str | bytes, idempotency_key: str = ""
    ) -> _deals.DealSent: ...
    async def remove(self, cid: str, idempotency_key: str = "") -> _storage.RemovedCar: ...
    async def repair(self, ref: str, idempotency_key: str = "") -> _copies.AllCopies: ...
    async def scrub(
        self, task: str | None = ..., idempotency_key: str = ""
    ) -> _storage.Scrubbed: ...
    async def set_copies(
        self, ref: str, copies: int, idempotency_key: str = ""
    ) -> _copies.AllCopies: ...
    async def start_scrub(
        self, task: str | None = ..., idempotency_key: str = ""
    ) -> _tasks.TaskInfo: ...

class _AsyncTask:
    async def cancel(self, task_id: str, idempotency_key: str = "") -> _tasks.TaskInfo: ...
    async def get(self, task_id: str, wait_ms: int = ...) -> _tasks.TaskInfo: ...
    async def list(self, limit: int = ..., cursor: str = ...) -> _tasks.TaskList: ...

class _AsyncTenant:
    async def create(
        self,
        name: str,
        running_max: int = ...,
        storage_bytes_max: int = ...,
        calls_per_s: int = ...,
        idempotency_key: str = "",
    ) -> _tenants.TenantInfo: ...
    async def get(self, name: str | None = ...) -> _tenants.TenantInfo: ...
    async def list(self, idempotency_key: str = "") -> _tenants.TenantList: ...
    async def remove(self, name: str, idempotency_key: str = "") -> _tenants.RemovedTenant: ...
    async def set(
        self,
        name: str,
        running_max: int | None = ...,
        storage_bytes_max: int | None = ...,
        calls_per_s: int | None = ...,
        idempotency_key: str = "",
    ) -> _tenants.TenantInfo: ...

class _AsyncToken:
    async def create(
        self,
        name: str,
        role: Literal["admin", "observer", "operator", "user"] | None = ...,
        scopes: Sequence[Literal["admin", "read", "sign", "write"]] = ...,
        ttl_s: int | None = ...,
        tenant: str | None = ...,
        methods: Sequence[str] = ...,
        spend_limit: str | int | None = ...,
        daily_cap: str | int | None = ...,
        public_key: str | bytes | None = ...,
        idempotency_key: str = "",
    ) -> _tokens.NewToken: ...
    async def create_login(self) -> _tokens.Login: ...
    async def list(
        self, limit: int = ..., cursor: str = ..., idempotency_key: str = ""
    ) -> _tokens.TokenList: ...
    async def revoke(self, id: str, idempotency_key: str = "") -> _tokens.Revoked: ...
    async def rotate_key(
        self, grace_s: int = ..., idempotency_key: str = ""
    ) -> _tokens.Rotated: ...
    async def whoami(self) -> _tokens.WhoAmI: ...

class _AsyncValidator:
    async def get(self, operator: str | bytes | None = ...) -> _validator.Bond: ...
    async def join(self, stake: str | int, idempotency_key: str = "") -> _validator.Ordered: ...
    async def leave(self, idempotency_key: str = "") -> _validator.Ordered: ...
    async def rotate(self, idempotency_key: str = "") -> _validator.Ordered: ...
    async def set_stake(
        self, stake: str | int, idempotency_key: str = ""
    ) -> _validator.Ordered: ...
    async def withdraw(self, idempotency_key: str = "") -> _validator.Ordered: ...

class _AsyncWallet:
    async def approve(
        self, hold: str | bytes, branch: int = ..., name: str = ..., idempotency_key: str = ""
    ) -> _wallet.Approved: ...
    async def change_password(
        self, name: str, password: str, new_password: str, idempotency_key: str = ""
    ) -> _wallet.KeyInfo: ...
    async def create_key(
        self, name: str, password: str, idempotency_key: str = ""
    ) -> _wallet.KeyInfo: ...
    async def export_key(
        self, name: str, password: str, file_password: str | None = ..., idempotency_key: str = ""
    ) -> _keys.ExportedKey: ...
    async def import_key(
        self,
        name: str,
        password: str,
        key_file: str | None = ...,
        file_password: str | None = ...,
        seed: str | bytes | None = ...,
        idempotency_key: str = "",
    ) -> _wallet.KeyInfo: ...
    async def list_keys(self, limit: int = ..., cursor: str = ...) -> _wallet.Keys: ...
    async def lock(self, name: str = ..., idempotency_key: str = "") -> _wallet.KeyInfo: ...
    async def sign(
        self, message: str, name: str = ..., hex: bool = ..., idempotency_key: str = ""
    ) -> _keys.SignedMessage: ...
    async def submit(
        self, kind: str, payload: Mapping[str, object], name: str = ..., idempotency_key: str = ""
    ) -> _wallet.Submitted: ...
    async def transfer(
        self, to: str | bytes, amount: str | int, name: str = ..., idempotency_key: str = ""
    ) -> _wallet.Transferred: ...
    async def unlock(
        self, password: str, name: str = ..., ttl_s: int = ..., idempotency_key: str = ""
    ) -> _wallet.Unlocked: ...
    async def verify(
        self, message: str, address: str | bytes, signature: str | bytes, hex: bool = ...
    ) -> _keys.VerifiedMessage: ...

class _AsyncWorker:
    async def drain(
        self, grace_s: int | None = ..., idempotency_key: str = ""
    ) -> _worker.WorkOfferInfo: ...
    async def get_earnings(
        self, days: int | None = ..., limit: int = ..., cursor: str = ...
    ) -> _worker.WorkerEarnings: ...
    async def get_offer(self) -> _worker.WorkOfferInfo: ...
    async def pause(self, idempotency_key: str = "") -> _worker.WorkOfferInfo: ...
    async def resume(self, idempotency_key: str = "") -> _worker.WorkOfferInfo: ...
    async def set_offer(
        self,
        price: str | int | None = ...,
        units_max: int | None = ...,
        as_configured: bool = ...,
        idempotency_key: str = "",
    ) -> _worker.WorkOfferInfo: ...

class Surface:
    def _do(self, method: Method, params: Mapping[str, object]) -> object: ...
    @property
    def account(self) -> _Account: ...
    @property
    def audit(self) -> _Audit: ...
    @property
    def chain(self) -> _Chain: ...
    @property
    def consensus(self) -> _Consensus: ...
    @property
    def dataset(self) -> _Dataset: ...
    @property
    def governance(self) -> _Governance: ...
    @property
    def infer(self) -> _Infer: ...
    @property
    def job(self) -> _Job: ...
    @property
    def model(self) -> _Model: ...
    @property
    def net(self) -> _Net: ...
    @property
    def node(self) -> _Node: ...
    @property
    def plan(self) -> _Plan: ...
    @property
    def rpc(self) -> _Rpc: ...
    @property
    def serve(self) -> _Serve: ...
    @property
    def spending(self) -> _Spending: ...
    @property
    def storage(self) -> _Storage: ...
    @property
    def task(self) -> _Task: ...
    @property
    def tenant(self) -> _Tenant: ...
    @property
    def token(self) -> _Token: ...
    @property
    def validator(self) -> _Validator: ...
    @property
    def wallet(self) -> _Wallet: ...
    @property
    def worker(self) -> _Worker: ...

class AsyncSurface:
    def _do(self, method: Method, params: Mapping[str, object]) -> Coroutine[Any, Any, object]: ...
    @property
    def account(self) -> _AsyncAccount: ...
    @property
    def audit(self) -> _AsyncAudit: ...
    @property
    def chain(self) -> _AsyncChain: ...
    @property
    def consensus(self) -> _AsyncConsensus: ...
    @property
    def dataset(self) -> _AsyncDataset: ...
    @property
    def governance(self) -> _AsyncGovernance: ...
    @property
    def infer(self) -> _AsyncInfer: ...
    @property
    def job(self) -> _AsyncJob: ...
    @property
    def model(self) -> _AsyncModel: ...
    @property
    def net(self) -> _AsyncNet: ...
    @property
    def node(self) -> _AsyncNode: ...
    @property
    def plan(self) -> _AsyncPlan: ...
    @property
    def rpc(self) -> _AsyncRpc: ...
    @property
    def serve(self) -> _AsyncServe: ...
    @property
    def spending(self) -> _AsyncSpending: ...
    @property
    def storage(self) -> _AsyncStorage: ...
    @property
    def task(self) -> _AsyncTask: ...
    @property
    def tenant(self) -> _AsyncTenant: ...
    @property
    def token(self) -> _AsyncToken: ...
    @property
    def validator(self) -> _AsyncValidator: ...
    @property
    def wallet(self) -> _AsyncWallet: ...
    @property
    def worker(self) -> _AsyncWorker: ...
