// Who we are to the node: tokens in memory, what they allow, whether the node is there.
// Knows: login. Must not know: panels. Nothing is written to disk: a reload asks again.
import { signal } from "@preact/signals";
import { ask, askAll, buyToken, Refusal, Unreachable, type Name, type Params, type Result } from "../rpc/client";
import { SCOPES } from "../rpc/types";
import { skew } from "./tape";

export type Phase = "out" | "entering" | "in";

export const phase = signal<Phase>("out");
export const whyOut = signal("");
export const scopes = signal<string[] | null>(null);
export const caller = signal("");
export const expires = signal<string | null>(null);
export const isLost = signal(false);
export const lastAnswer = signal(0);
/** The call that waits until somebody gives a token that may make it. */
export const wanted = signal<{ scope: string; method: string; done: (token: string | null) => void } | null>(null);

let token = "";
let stronger = "";

export const readToken = (): string => token;

interface Whoami {
  name: string;
  scopes: string[];
  expires: string | null;
}

/** Try a token; the session begins if the node takes it. */
export async function enter(given: string): Promise<void> {
  phase.value = "entering";
  whyOut.value = "";
  try {
    const began = Date.now();
    const [pong, who] = await askAll(
      [
        { method: "rpc_ping", params: {} },
        { method: "token_whoami", params: {} },
      ],
      given,
      10_000,
    );
    if (pong instanceof Error) throw pong;
    skew.value = Date.parse((pong as { time: string }).time) - (began + Date.now()) / 2;
    if (!(who instanceof Error) && who) {
      const found = who as Whoami;
      scopes.value = found.scopes;
      caller.value = found.name;
      expires.value = found.expires;
    } else {
      scopes.value = null;
      caller.value = "";
    }
    token = given;
    lastAnswer.value = Date.now();
    isLost.value = false;
    phase.value = "in";
  } catch (error) {
    phase.value = "out";
    whyOut.value = said(error);
  }
}

/** Enter with the one-time code of `prsm dashboard`. */
export async function enterByCode(code: string): Promise<void> {
  phase.value = "entering";
  try {
    await enter((await buyToken(code)).token);
  } catch (error) {
    phase.value = "out";
    whyOut.value =
      error instanceof Refusal && error.reason === "unauthorised"
        ? "That login link was used or is older than a minute. Type `prsm dashboard` again."
        : said(error);
  }
}

export function leave(why = ""): void {
  token = "";
  stronger = "";
  phase.value = "out";
  whyOut.value = why;
}

export function said(error: unknown): string {
  if (error instanceof Refusal) return error.hint ? `${error.message} — ${error.hint}` : error.message;
  if (error instanceof Unreachable) return "The node does not answer. Is it running? `prsm status` tells.";
  return String(error);
}

/** Make a call that may need more than our token allows: asks for a stronger one if so. */
export async function act<M extends Name>(method: M, params: Params<M>, limitMs?: number): Promise<Result<M>> {
  try {
    return await ask(method, params, stronger || token, limitMs);
  } catch (error) {
    const scope = SCOPES[method] ?? "write";
    const isOurs = stronger !== "" || (scopes.value?.includes(scope) ?? false);
    if (!(error instanceof Refusal) || error.reason !== "forbidden" || isOurs) throw error;
    const given = await new Promise<string | null>((done) => {
      wanted.value = { scope, method, done };
    });
    wanted.value = null;
    if (given === null) throw error;
    const found = await ask(method, params, given, limitMs);
    stronger = given;
    return found;
  }
}
