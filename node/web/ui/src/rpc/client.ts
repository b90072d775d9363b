// Calls of the node over POST /rpc, typed by the table of methods.
// Knows: JSON-RPC over fetch. Must not know: what is shown, where the token comes from.
import type { Methods } from "./types";

export type Name = keyof Methods;
export type Params<M extends Name> = Methods[M]["params"];
export type Result<M extends Name> = Methods[M]["result"];

interface FaultData {
  reason?: string;
  prsm_code?: string;
  why?: string;
  hint?: string;
  retry_after_ms?: number;
  trace_id?: string;
}
interface Reply {
  id?: number | null;
  result?: unknown;
  error?: { code: number; message: string; data?: FaultData };
}

/** The node refused a call, and says why. */
export class Refusal extends Error {
  readonly reason: string;
  readonly prsm: string;
  readonly why: string;
  readonly hint: string;
  readonly trace: string;
  readonly retryMs: number;
  constructor(readonly code: number, message: string, data: FaultData = {}) {
    super(message);
    this.reason = data.reason ?? "";
    this.prsm = data.prsm_code ?? "";
    this.why = data.why ?? "";
    this.hint = data.hint ?? "";
    this.trace = data.trace_id ?? "";
    this.retryMs = data.retry_after_ms ?? 0;
  }
}

/** Nothing answered: the node is gone, or the way to it. */
export class Unreachable extends Error {}

export type Fault = Refusal | Unreachable;
export interface Asked {
  method: string;
  params: unknown;
}

let serial = 0;

async function post(path: string, body: unknown, token: string, limitMs: number): Promise<unknown> {
  const headers: Record<string, string> = { "Content-Type": "application/json" };
  if (token) headers["Authorization"] = `Bearer ${token}`;
  let answer: Response;
  try {
    const signal = AbortSignal.timeout(limitMs);
    answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal, cache: "no-store" });
    if (answer.status === 204) return null;
    return (await answer.json()) as unknown;
  } catch (error) {
    throw new Unreachable(error instanceof Error ? error.message : "no answer");
  }
}

function outcome(reply: Reply | undefined): unknown {
  if (!reply) return new Unreachable("the node left a call unanswered");
  if (reply.error) return new Refusal(reply.error.code, reply.error.message, reply.error.data);
  return reply.result;
}

/** Ask several things at once; each gets its result or its fault. Rejects if nothing answered. */
export async function askAll(asked: Asked[], token: string, limitMs = 20_000): Promise<unknown[]> {
  const calls = asked.map((one) => ({ jsonrpc: "2.0", id: ++serial, method: one.method, params: one.params }));
  const replies = (await post("/rpc", calls, token, limitMs)) as Reply[] | Reply;
  if (!Array.isArray(replies)) {
    const fault = outcome(replies);
    throw fault instanceof Error ? fault : new Unreachable("a batch was answered with one document");
  }
  const byId = new Map(replies.map((reply) => [reply.id, reply]));
  return calls.map((call) => outcome(byId.get(call.id)));
}

/** Ask one thing. */
export async function ask<M extends Name>(method: M, params: Params<M>, token: string, limitMs = 90_000): Promise<Result<M>> {
  const call = { jsonrpc: "2.0", id: ++serial, method, params };
  const found = outcome((await post("/rpc", call, token, limitMs)) as Reply);
  if (found instanceof Error) throw found;
  return found as Result<M>;
}

export interface Bought {
  token: string;
  expires: string | null;
  scopes: string[];
}

/** Exchange the one-time code of `prsm dashboard` for a token. */
export async function buyToken(code: string): Promise<Bought> {
  const reply = (await post("/login", { code }, "", 10_000)) as Reply & Bought;
  if (reply?.error) throw new Refusal(reply.error.code, reply.error.message, reply.error.data);
  return reply;
}
