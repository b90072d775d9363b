// Blocks by height: asked once, kept, since a committed block never changes.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { askAll } from "../rpc/client";
import type { BlockInfo } from "../rpc/types";
import { heads } from "./live";
import { use } from "./poll";
import { phase, readToken } from "./session";
import { cursor } from "./tape";

const blocks = new Map<number, BlockInfo>();
const asked = new Set<number>();
const version = signal(0);
const KEPT_MAX = 600;
const BATCH = 12;

export function block(height: number): BlockInfo | undefined {
  version.value;
  return blocks.get(height);
}

/** Height of the newest block at the moment that is shown; 0: none. */
export function useTop(): number {
  const chain = use("chain_getStatus", {}, { every: 3000, isKept: true }).data;
  const at = cursor.value;
  const now = chain?.height ?? 0;
  if (at === null) return now;
  const then = heads.at(at)?.value.height ?? known(Number.MAX_SAFE_INTEGER).find((one) => Date.parse(one.time) <= at)?.height;
  return then ?? now;
}

/** All known blocks, the newest first, not above a height. */
export function known(top: number): BlockInfo[] {
  version.value;
  return [...blocks.values()].filter((one) => one.height <= top).sort((a, b) => b.height - a.height);
}

/** Have the blocks of [first, last] fetched, the newest first. */
export function useBlocks(first: number, last: number): void {
  const state = phase.value;
  useEffect(() => {
    if (state !== "in" || last < 1) return;
    const missing: number[] = [];
    for (let height = last; height >= Math.max(1, first); height--) {
      if (!blocks.has(height) && !asked.has(height)) missing.push(height);
    }
    void fetchAll(missing);
  }, [first, last, state]);
}

async function fetchAll(heights: number[]): Promise<void> {
  for (const height of heights) asked.add(height);
  try {
    for (let at = 0; at < heights.length; at += BATCH) {
      const some = heights.slice(at, at + BATCH);
      const found = await askAll(some.map((height) => ({ method: "chain_getBlock", params: { height } })), readToken());
      for (const one of found) if (!(one instanceof Error)) blocks.set((one as BlockInfo).height, one as BlockInfo);
      for (const old of [...blocks.keys()].sort((a, b) => a - b).slice(0, Math.max(0, blocks.size - KEPT_MAX))) blocks.delete(old);
      version.value++;
    }
  } catch {
    // The next head asks again.
  } finally {
    for (const height of heights) asked.delete(height);
  }
}
