// Made by scripts/dashboard.py of the table of methods; do not edit.

export interface AccountParams {
  address?: string | null;
  min_height?: number;
}

export interface AllCopies {
  items: Array<CopiesOf>;
}

export interface AnnouncementInfo {
  topic: string;
  peer_id: string;
  key: string;
  made: string;
  expires: string;
  content: Record<string, unknown>;
}

export interface Announcements {
  items: Array<AnnouncementInfo>;
  more: boolean;
}

export interface AnnouncementsParams {
  topic?: "blocks" | "capacity" | "models" | "status" | "storage" | null;
  peer_id?: string | null;
  limit?: number;
}

export interface AuditAnchor {
  tx_id: string;
  seq: number;
  hash: string;
  height: number | null;
  state: "differs" | "held" | "pending" | "unknown";
  why: string;
}

export interface AuditLine {
  seq: number;
  ts: string;
  event: string;
  who: string;
  tenant: string;
  token_id: string;
  subject: string;
  trace_id: string;
  fields: Record<string, string>;
  prev: string;
  hash: string;
}

export interface AuditLines {
  items: Array<AuditLine>;
  next_cursor: string | null;
}

export interface AuditListParams {
  limit?: number;
  cursor?: string;
}

export interface AuditVerdict {
  ok: boolean;
  first: number;
  last: number;
  root: string;
  broken_at: number;
  why: string;
  anchored: number;
  anchors: Array<AuditAnchor>;
}

export interface AuditVerifyParams {
  tx_ids?: Array<string>;
}

export interface Balance {
  address: string;
  balance: string;
  bonded: string;
  nonce: number;
  height: number;
}

export interface Ban {
  peer_id: string;
  until: string;
  why: string;
  times: number;
  by_operator: boolean;
}

export interface BanParams {
  peer_id: string;
  seconds?: number;
  why?: string;
}

export interface BannedPeer {
  peer_id: string;
  until: string;
  why: string;
}

export interface Bans {
  items: Array<Ban>;
  next_cursor?: string | null;
}

export interface BlockInfo {
  height: number;
  hash: string;
  prev_hash: string;
  view: number;
  epoch: number;
  proposer: number;
  time: string;
  state_root: string;
  tx_root: string;
  size_bytes: number;
  evidence: number;
  certificate: CertificateInfo | null;
  transactions: Array<TransactionInfo>;
  header: string;
}

export interface BlockParams {
  height?: number | null;
  hash?: string | null;
}

export interface Bond {
  operator: string;
  state: "convicted" | "gone" | "leaving" | "none" | "validator" | "waiting";
  stake: string;
  target: string;
  weight: string;
  weight_next: string;
  consensus: string | null;
  consensus_next: string | null;
  peer_id: string | null;
  leaving: Array<LeavingInfo>;
  epoch: number;
  height: number;
}

export interface CertificateInfo {
  view: number;
  digest: string;
  signers: Array<number>;
  stake: string;
  raw: string;
}

export interface ChainStatus {
  network: string;
  chain_id: string;
  genesis_hash: string;
  development: boolean;
  height: number;
  head_hash: string;
  state_root: string;
  head_time: string | null;
  epoch: number;
  validators: number;
  supply: string;
  transactions: number;
  mempool: number;
}

export interface Collected {
  dry_run: boolean;
  freed_bytes: number;
  used_bytes: number;
  quota_bytes: number;
  items: Array<GcRow>;
}

export interface ConfigRow {
  key: string;
  value: string | number | boolean | Array<string>;
  origin: "default" | "env" | "file" | "flag" | "profile" | "system";
  about: string;
  pending: string | number | boolean | Array<string> | null;
}

export interface ConfigRows {
  items: Array<ConfigRow>;
}

export interface ConsideredWay {
  mode: "pipeline" | "replicas";
  stages: number;
  spread: number;
  workers: number;
  amount: string;
  estimate_ms: number | null;
  why_not: string;
}

export interface CopiesOf {
  ref: string;
  cid: string;
  copies: number;
  holders: Array<string>;
  assigned: Array<string>;
  short_ms: number | null;
  here: boolean;
  fetching: boolean;
  why: string;
}

export interface Disk {
  state: "low" | "ok" | "read_only";
  total_bytes: number;
  free_bytes: number;
  reserve_bytes: number;
}

export interface DoctorReport {
  faults: number;
  warnings: number;
  items: Array<DoctorRow>;
}

export interface DoctorRow {
  number: string;
  name: string;
  level: "fault" | "note" | "ok" | "warning";
  what: string;
  fix: string;
  can_fix: boolean;
}

export interface ElectorInfo {
  operator: string;
  weight: string;
  delegate: string | null;
  choice: "abstain" | "no" | "yes" | null;
}

export interface GcParams {
  dry_run?: boolean;
  partials?: boolean;
}

export interface GcRow {
  id: string;
  of: string;
  size_bytes: number;
  goes: boolean;
  why: string;
}

export interface GenerateParams {
  model: string;
  prompt: string;
  max_tokens?: number;
  temperature?: number;
  top_k?: number;
  top_p?: number;
  seed?: number;
  stages?: number;
  home?: number;
  local?: boolean;
  spare?: boolean;
  replay?: "prefill" | "steps";
  max_price?: string | null;
  deadline_ms?: number;
}

export interface GenerationInfo {
  generation_id: string;
  state: "done" | "failed" | "opening" | "running" | "settling";
  text: string;
  is_over: boolean;
  finish: "context" | "length" | "stop" | null;
  prompt_tokens: number;
  tokens: number;
  opened_ms: number;
  first_token_ms: number;
  tokens_ms: number;
  locked: string;
  jobs: Array<string>;
  stages: Array<string>;
  recoveries: Array<RecoveryInfo>;
}

export interface GenerationParams {
  generation_id: string;
}

export interface HealthParams {
  model?: string | null;
}

export interface Job {
  job_id: string;
  model: string;
  state: "done" | "failed" | "locked" | "planned" | "running" | "settling";
  rows: number;
  rows_done: number;
  batches: Array<Array<number>>;
  stages: number;
  created: string;
  is_over: boolean;
  deadline: string | null;
  locked: string;
  paid: string;
  refunded: string;
  lock_height: number;
  run_ms: number;
  settled_heights: Array<number>;
  workers: Array<JobWorker>;
  leases: Array<string>;
  because: Array<string>;
  unsettled: Array<JobFault>;
  error?: JobFault | null;
}

export interface JobFault {
  reason: string;
  what: string;
}

export interface JobIdParams {
  job_id: string;
}

export interface JobParams {
  job_id: string;
  wait_ms?: number;
}

export interface JobPlan {
  model: string;
  mode: "pipeline" | "replicas";
  rows: number;
  batches: number;
  stages: number;
  stages_here: number;
  amount: string;
  reserve: string;
  spare: string;
  one_machine_ms: number | null;
  plan_ms: number | null;
  because: Array<string>;
  units: Array<PlannedUnit>;
  considered: Array<ConsideredWay>;
}

export interface JobProofParams {
  job_id: string;
  epoch?: number;
}

export interface JobResult {
  job_id: string;
  rows: number;
  output_root: string;
  outputs: Array<TensorText>;
}

export interface JobWorker {
  peer_id: string;
  account: string;
  unit: number;
  stage: number;
  role: "fifth" | "fourth" | "primary" | "replica" | "third";
  batches: number;
  rows: number;
  compute_ms: number;
  verdict: "agreed" | "lost" | "outvoted" | "pending" | "unused";
  why: string;
  paid: string;
  began_ms?: number | null;
  ended_ms?: number | null;
}

export interface Jobs {
  items: Array<Job>;
  next_cursor?: string | null;
}

export interface LeavingInfo {
  amount: string;
  withdrawable: string;
}

export interface Limits {
  body_bytes: number;
  batch_calls: number;
  batch_answer_bytes: number;
  connections: number;
  socket_message_bytes?: number;
  socket_calls?: number;
  socket_subscriptions?: number;
}

export interface ListTokensParams {
  limit?: number;
  cursor?: string;
}

export interface Load {
  peers_in: number;
  peers_out: number;
  tasks: number;
  held_bytes: number;
  rss_bytes: number;
  memory_bytes: number;
  dropped: number;
  bans: number;
  restarts: number;
  counts: Record<string, number>;
}

export interface LoginInfo {
  name: string;
  scopes: Array<string>;
  tenant: string;
  expires: string | null;
}

export interface LoginParams {
  token: string;
}

export interface ModelDetail {
  model: ModelInfo;
  kind: string;
  licence: string;
  created: string;
  runtime: string;
  pinned_sha256: string;
  tokenizer: boolean;
  signed: boolean;
  sealed_for: Array<string>;
  inputs: Array<TensorForm>;
  outputs: Array<TensorForm>;
  files: Array<Record<string, unknown>>;
  parents: Array<string>;
  scores: Array<ScoreInfo>;
}

export interface ModelHealth {
  items: Array<ServiceHealth>;
}

export interface ModelInfo {
  ref: string;
  cid: string;
  name: string;
  semver: string;
  size_bytes: number;
  held_bytes: number;
  state: "absent" | "held" | "offline" | "partial" | "shared";
  stale: boolean;
  local: boolean;
  registered: boolean;
  sealed: boolean;
  pins: Array<string>;
  stages: Array<number>;
  publisher: string;
  tx_id?: string | null;
  created?: string;
  queued?: string;
}

export interface Models {
  items: Array<ModelInfo>;
  next_cursor?: string | null;
}

export interface NoParams {
}

export interface NodeStatus {
  name: string;
  version: string;
  profile: string;
  state: "ready" | "starting" | "stopping" | "syncing";
  home: string;
  pid: number;
  started: string;
  uptime_ms: number;
  network: string;
  chain_id: string;
  development: boolean;
  peer_id: string;
  addresses: Array<string>;
  rpc: string;
  peers: number;
  height: number;
  head_hash: string;
  state_root: string;
  head_time: string | null;
  validator: boolean;
  wallet: string | null;
  wallet_unlocked: boolean;
  jobs_running: number;
  models: number;
  offline: boolean;
  stale: boolean;
  rss_bytes: number;
  parts: Array<Part>;
}

export interface OperatorParams {
  operator?: string | null;
}

export interface PageParams {
  limit?: number;
  cursor?: string;
}

export interface Parameters {
  height: number;
  values: Record<string, string>;
  categories: Record<string, Record<string, string>>;
}

export interface Part {
  name: string;
  state: "failed" | "restarting" | "running" | "starting" | "stopped";
  restarts: number;
  why?: string;
}

export interface Peer {
  peer_id: string;
  address: string;
  direction: "in" | "out";
  relayed: boolean;
  since: string;
  rtt_ms: number | null;
  agent: string;
  schema?: number;
}

export interface Peers {
  items: Array<Peer>;
  banned: Array<BannedPeer>;
  next_cursor?: string | null;
}

export interface PinParams {
  ref: string;
  name?: string;
}

export interface Pinned {
  cid: string;
  name: string;
  state: "failed" | "fetching" | "held" | "waiting";
  task_id?: string | null;
}

export interface PlaceHeld {
  relay: string;
  address: string;
  until: string;
  bytes_per_s: number;
}

export interface PlannedUnit {
  stage: number;
  first: number;
  batches: number;
  rows: number;
  needed: number;
  price_per_row: string;
  peers: Array<string>;
  accounts: Array<string>;
}

export interface Pong {
  time: string;
}

export interface ProposalInfo {
  proposal: string;
  proposer: string;
  category: "community" | "constitutional" | "economic" | "emergency" | "operational" | "safety" | "technical";
  text: string;
  changes: Record<string, string>;
  halt: string | null;
  lift: boolean;
  status: "enacted" | "lapsed" | "no_quorum" | "open" | "rejected";
  would_be: "enacted" | "lapsed" | "no_quorum" | "open" | "rejected";
  votes: Votes;
  quorum_bps: number;
  threshold_bps: number;
  opened_height: number;
  closes: string;
  enactable: string;
  lapses: string;
  deposit: string;
  electors: Array<ElectorInfo>;
}

export interface Proposals {
  height: number;
  items: Array<ProposalInfo>;
  more: boolean;
}

export interface ProposalsParams {
  limit?: number;
}

export interface ReachState {
  verdict: "reachable" | "unknown" | "unreachable";
  ip: string | null;
  listening: Array<string>;
  announced: Array<string>;
  seen: Record<string, number>;
  dialled: Record<string, number>;
  places: Array<PlaceHeld>;
  relay: Relaying;
}

export interface ReadTokensParams {
  generation_id: string;
  wait_ms?: number;
}

export interface RecoveryInfo {
  stage: number;
  lost: string;
  taken_by: string;
  why: string;
  positions: number;
  load_ms: number;
  replay_ms: number;
  lost_ms: number;
}

export interface RefParams {
  ref: string;
  offline?: boolean;
}

export interface Relaying {
  serves: boolean;
  places: Array<string>;
  circuits: number;
  carried_bytes: number;
}

export interface Revoked {
  ids: Array<string>;
}

export interface Round {
  height: number;
  view: number;
  phase: string;
  proposer: number;
  epoch: number;
  epoch_first: number;
  low_mark: number;
  silent_because: string;
  quorum: string;
  members: Array<RoundMember>;
  following: Validators;
}

export interface RoundMember {
  index: number;
  operator: string;
  peer_id: string;
  stake: string;
  silent_ms: number | null;
}

export interface RpcInfo {
  version: string;
  min_client: string;
  protocol_version: number;
  chain_id: string;
  network: string;
  methods: number;
  limits: Limits;
}

export interface RunParams {
  model: string;
  texts?: Array<string> | null;
  inputs?: Array<TensorText> | null;
  stages?: number | null;
  spread?: number | null;
  stages_here?: number;
  replicas?: number;
  redundancy?: "1-of-1" | "2-of-2" | "2-of-3" | "3-of-4" | "3-of-5" | "value" | null;
  spares?: number | null;
  rows_per_batch?: number;
  window?: number;
  max_price?: string | null;
  deadline_ms?: number;
  wait_ms?: number;
}

export interface ScoreInfo {
  dataset: string;
  dataset_cid: string;
  correct: number;
  total: number;
  accuracy_millionths: number;
  low_millionths: number;
  high_millionths: number;
  recorded: number;
  draws: number;
  job_id: string;
  height: number;
}

export interface ScrubParams {
  task?: string | null;
}

export interface Sent {
  tx_id: string;
  sender: string;
  fee: string;
  proposal: string | null;
}

export interface ServiceFault {
  at: string;
  reason: string;
  what: string;
}

export interface ServiceHealth {
  model: string;
  worker: string;
  state: "failing" | "left_out" | "well";
  done: number;
  failed: number;
  success_millionths: number;
  rows: number;
  p50_us: number;
  p99_us: number;
  probes_done: number;
  probes_failed: number;
  probed: string | null;
  errors: Array<ServiceFault>;
  hours: Array<ServiceHour>;
}

export interface ServiceHour {
  began: string;
  done: number;
  failed: number;
  mean_ms: number;
}

export interface ServingState {
  items: Array<TabInfo>;
  at_work: number;
  waiting: number;
  cache_answers: number;
  cache_bytes: number;
  cache_hits: number;
  cache_misses: number;
  next_cursor?: string | null;
}

export interface SourceRow {
  name: string;
  kind: "bitswap" | "daemon" | "gateway" | "peer";
  state: string;
  latency_ms: number;
  rate_bytes_per_s: number;
  bytes: number;
  faults: number;
  last_error: string;
  next_try_ms: number;
}

export interface Sources {
  offline: boolean;
  items: Array<SourceRow>;
}

export interface Standing {
  address: string;
  pledged: string;
  held: string;
  auditor_since: number | null;
  settled: number;
  faults: number;
  clean: number;
  audit_bps: number;
  height: number;
}

export interface Stopping {
  pid: number;
}

export interface StorageStats {
  used_bytes: number;
  quota_bytes: number;
  files: number;
  files_bytes: number;
  partial_bytes: number;
  damaged_bytes: number;
  block_bytes: number;
  reserved_bytes: number;
  pinned_bytes: number;
  leased_bytes: number;
  models: number;
  offline: boolean;
  extra_stores: Array<string>;
  sources: Array<string>;
  disk: Disk | null;
  outbox?: number;
}

export interface SubscribeParams {
  topic: "alerts" | "heads" | "jobs" | "logs" | "metrics" | "models" | "peers" | "rounds" | "tokens" | "transfers" | "votes";
  filter?: Record<string, boolean | number | string | Array<string>>;
  resume_from?: number | null;
}

export interface Subscribed {
  subscription: string;
  topic: string;
  seq: number;
}

export interface Supply {
  height: number;
  minted: string;
  accounts: string;
  locked: string;
  bonded: string;
  burnt: string;
}

export interface TabInfo {
  tab_id: string;
  model: string;
  state: "closing" | "failed" | "open" | "opening" | "settled";
  rows: number;
  opinions: number;
  slots: number;
  used: number;
  answered: number;
  under_way: number;
  locked: string;
  price_per_row: string;
  workers: Array<string>;
  lost: Array<string>;
  why: string;
}

export interface TaskFault {
  reason: string;
  what: string;
  hint: string;
}

export interface TaskIdParams {
  task_id: string;
}

export interface TaskInfo {
  task_id: string;
  state: "cancelled" | "done" | "failed" | "running";
  kind: string;
  subject: string;
  size_bytes: number;
  done_bytes: number;
  rate_bytes_per_s: number;
  eta_ms: number | null;
  stalled_ms: number;
  sources: Record<string, number>;
  began: string;
  ended: string | null;
  error?: TaskFault | null;
}

export interface TaskList {
  items: Array<TaskInfo>;
  next_cursor?: string | null;
}

export interface TenantInfo {
  name: string;
  running_max: number;
  running: number;
  storage_bytes_max: number;
  storage_bytes: number;
  calls_per_s: number;
  made: string;
}

export interface TenantList {
  items: Array<TenantInfo>;
}

export interface TensorForm {
  name: string;
  dtype: string;
  shape: Array<number | string>;
}

export interface TensorText {
  name: string;
  dtype: string;
  shape: Array<number>;
  data: string;
}

export interface TokenInfo {
  id: string;
  name: string;
  state: "expired" | "live" | "revoked" | "rotated";
  role: string;
  scopes: Array<"admin" | "read" | "sign" | "write">;
  tenant: string;
  methods: Array<string>;
  spend_limit: string | null;
  daily_cap: string | null;
  public_key: string;
  made_by: string;
  created: string;
  expires: string | null;
}

export interface TokenList {
  items: Array<TokenInfo>;
  next_cursor?: string | null;
}

export interface TokenParams {
  id: string;
}

export interface Topology {
  at: string;
  one_sided: number;
  silent: number;
  nodes: Array<TopologyNode>;
  links: Array<TopologyLink>;
}

export interface TopologyLink {
  one: string;
  other: string;
  seen_by: "both" | "one" | "other";
  one_sided: boolean;
  dialled_by: "one" | "other" | "unclear";
  relayed: boolean;
  rtt_ms_one: number | null;
  rtt_ms_other: number | null;
}

export interface TopologyNode {
  peer_id: string;
  region: string;
  told_by: "a peer of it" | "itself" | "nobody" | "this node";
  links: number;
  age_ms: number;
  why: string;
}

export interface TransactionInfo {
  tx_id: string;
  kind: string;
  sender: string;
  nonce: number;
  fee: string;
  status: "committed" | "pending";
  height: number | null;
  index: number | null;
  ok: boolean | null;
  why: string;
  body: Record<string, unknown>;
  raw: string;
}

export interface TxParams {
  tx_id: string;
}

export interface UnbanParams {
  peer_id: string;
}

export interface Unbanned {
  peer_id: string;
  was_known: boolean;
}

export interface Unpinned {
  cid: string;
  name: string;
  left: Array<string>;
}

export interface ValidatorInfo {
  index: number;
  operator: string;
  consensus: string;
  peer_id: string;
  stake: string;
}

export interface Validators {
  epoch: number;
  validators_hash: string;
  stake_total: string;
  quorum: string;
  items: Array<ValidatorInfo>;
}

export interface VoteParams {
  proposal: string;
  choice: "abstain" | "no" | "yes";
}

export interface Votes {
  yes: string;
  no: string;
  abstain: string;
  total: string;
}

export interface WhoAmI {
  name: string;
  scopes: Array<"admin" | "read" | "sign" | "write">;
  tenant: string;
  methods: Array<string>;
  token_id: string;
  expires: string | null;
  spend_limit: string | null;
  daily_cap: string | null;
}

export interface Methods {
  account_getBalance: { params: AccountParams; result: Balance };
  account_getStanding: { params: AccountParams; result: Standing };
  audit_list: { params: AuditListParams; result: AuditLines };
  audit_verify: { params: AuditVerifyParams; result: AuditVerdict };
  chain_getBlock: { params: BlockParams; result: BlockInfo };
  chain_getStatus: { params: NoParams; result: ChainStatus };
  chain_getSupply: { params: NoParams; result: Supply };
  chain_getTransaction: { params: TxParams; result: TransactionInfo };
  consensus_getRound: { params: NoParams; result: Round };
  governance_getParameters: { params: NoParams; result: Parameters };
  governance_getProposals: { params: ProposalsParams; result: Proposals };
  governance_vote: { params: VoteParams; result: Sent };
  infer_endGeneration: { params: GenerationParams; result: GenerationInfo };
  infer_generate: { params: GenerateParams; result: GenerationInfo };
  infer_plan: { params: RunParams; result: JobPlan };
  infer_readTokens: { params: ReadTokensParams; result: GenerationInfo };
  infer_run: { params: RunParams; result: Job };
  job_cancel: { params: JobIdParams; result: Job };
  job_get: { params: JobParams; result: Job };
  job_getProof: { params: JobProofParams; result: Record<string, unknown> };
  job_getResult: { params: JobIdParams; result: JobResult };
  job_list: { params: PageParams; result: Jobs };
  model_get: { params: RefParams; result: ModelDetail };
  model_getHealth: { params: HealthParams; result: ModelHealth };
  model_list: { params: PageParams; result: Models };
  model_pin: { params: PinParams; result: Pinned };
  model_startPull: { params: RefParams; result: TaskInfo };
  model_startVerify: { params: RefParams; result: TaskInfo };
  model_unpin: { params: PinParams; result: Unpinned };
  net_ban: { params: BanParams; result: Ban };
  net_getAnnouncements: { params: AnnouncementsParams; result: Announcements };
  net_getBans: { params: PageParams; result: Bans };
  net_getLoad: { params: NoParams; result: Load };
  net_getPeers: { params: PageParams; result: Peers };
  net_getReach: { params: NoParams; result: ReachState };
  net_getTopology: { params: NoParams; result: Topology };
  net_unban: { params: UnbanParams; result: Unbanned };
  node_getConfig: { params: NoParams; result: ConfigRows };
  node_getStatus: { params: NoParams; result: NodeStatus };
  node_runDoctor: { params: NoParams; result: DoctorReport };
  node_stop: { params: NoParams; result: Stopping };
  rpc_getInfo: { params: NoParams; result: RpcInfo };
  rpc_login: { params: LoginParams; result: LoginInfo };
  rpc_ping: { params: NoParams; result: Pong };
  serve_list: { params: PageParams; result: ServingState };
  storage_gc: { params: GcParams; result: Collected };
  storage_getCopies: { params: NoParams; result: AllCopies };
  storage_getStats: { params: NoParams; result: StorageStats };
  storage_listSources: { params: NoParams; result: Sources };
  storage_startScrub: { params: ScrubParams; result: TaskInfo };
  sub_subscribe: { params: SubscribeParams; result: Subscribed };
  task_cancel: { params: TaskIdParams; result: TaskInfo };
  task_list: { params: PageParams; result: TaskList };
  tenant_list: { params: NoParams; result: TenantList };
  token_list: { params: ListTokensParams; result: TokenList };
  token_revoke: { params: TokenParams; result: Revoked };
  token_whoami: { params: NoParams; result: WhoAmI };
  validator_get: { params: OperatorParams; result: Bond };
}

export const SCOPES: Record<string, string> = {
  account_getBalance: "read",
  account_getStanding: "read",
  audit_list: "admin",
  audit_verify: "admin",
  chain_getBlock: "read",
  chain_getStatus: "read",
  chain_getSupply: "read",
  chain_getTransaction: "read",
  consensus_getRound: "read",
  governance_getParameters: "read",
  governance_getProposals: "read",
  governance_vote: "sign",
  infer_endGeneration: "write",
  infer_generate: "write",
  infer_plan: "write",
  infer_readTokens: "write",
  infer_run: "write",
  job_cancel: "write",
  job_get: "read",
  job_getProof: "read",
  job_getResult: "read",
  job_list: "read",
  model_get: "read",
  model_getHealth: "read",
  model_list: "read",
  model_pin: "write",
  model_startPull: "write",
  model_startVerify: "write",
  model_unpin: "write",
  net_ban: "admin",
  net_getAnnouncements: "read",
  net_getBans: "read",
  net_getLoad: "read",
  net_getPeers: "read",
  net_getReach: "read",
  net_getTopology: "read",
  net_unban: "admin",
  node_getConfig: "read",
  node_getStatus: "read",
  node_runDoctor: "read",
  node_stop: "admin",
  rpc_getInfo: "read",
  rpc_login: "read",
  rpc_ping: "read",
  serve_list: "read",
  storage_gc: "write",
  storage_getCopies: "read",
  storage_getStats: "read",
  storage_listSources: "read",
  storage_startScrub: "write",
  sub_subscribe: "read",
  task_cancel: "write",
  task_list: "read",
  tenant_list: "admin",
  token_list: "admin",
  token_revoke: "admin",
  token_whoami: "read",
  validator_get: "read",
};
