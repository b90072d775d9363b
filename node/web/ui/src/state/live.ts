// Events of /ws put on their tracks; where there is no such door, heads are told from polling.
// Knows: topics. Must not know: panels.
import { batch, effect, signal } from "@preact/signals";
import { Socket, type Notice } from "../rpc/socket";
import type { Job, TaskInfo } from "../rpc/types";
import { refresh } from "./poll";
import { phase, readToken } from "./session";
import {
  exactNow,
  isPushed,
  Track,
  type AlertRow,
  type HeadRow,
  type LogRow,
  type MetricRow,
  type PeerRow,
  type RoundRow,
  type VoteRow,
} from "./tape";

export const heads = new Track<HeadRow>();
export const rounds = new Track<RoundRow>();
export const votes = new Track<VoteRow>();
export const peerEvents = new Track<PeerRow>();
export const jobs = new Track<Job>();
export const transfers = new Track<TaskInfo>();
export const metrics = new Track<MetricRow>();
export const alerts = new Track<AlertRow>();
export const logs = new Track<LogRow>();
export const models = new Track<{ name: string; cid: string; event: string }>();

export const missed = signal(0);

const TRACKS: Record<string, Track<never>> = {
  heads, rounds, votes, peers: peerEvents, jobs, transfers, metrics, alerts, logs, models,
} as unknown as Record<string, Track<never>>;

/** When it happened by the node's clock; rows without a time count from their arrival. */
function timeOf(notice: Notice, row: Record<string, unknown>): number {
  switch (notice.topic) {
    case "heads":
      return Date.parse(String(row["time"]));
    case "rounds":
    case "votes":
      return Number(row["at_ms"]);
    case "logs":
      return Date.parse(String(row["ts"])) || exactNow();
    case "alerts":
      return Date.parse(String(row["since"])) || exactNow();
    case "metrics": // one a second
      return exactNow() - 1000 * Math.max(0, notice.newest - notice.seq);
    default:
      return exactNow();
  }
}

const TURN_MS = 120;
let waiting: Notice[] = [];
let timer = 0;

/** Events come faster than a page should be drawn: they are put on their tracks in turns. */
function hold(notice: Notice): void {
  waiting.push(notice);
  if (timer) return;
  timer = window.setTimeout(() => {
    timer = 0;
    const all = waiting;
    waiting = [];
    batch(() => {
      for (const one of all) take(one);
    });
  }, TURN_MS);
}

function take(notice: Notice): void {
  if (notice.missed) missed.value += notice.missed;
  const row = notice.result as Record<string, unknown> | null;
  const track = TRACKS[notice.topic];
  if (!row || !track) return;
  track.push(timeOf(notice, row), row as never);
  if (notice.topic === "heads") {
    refresh("node_getStatus", "chain_getStatus", "consensus_getRound");
  } else if (notice.topic === "peers") {
    refresh("net_getPeers", "net_getTopology");
  } else if (notice.topic === "jobs") {
    refresh("job_list", "job_get");
  } else if (notice.topic === "transfers") {
    refresh("task_list");
  } else if (notice.topic === "models") {
    refresh("model_list", "model_get");
  }
}

const socket = new Socket({
  token: readToken,
  onNotice: hold,
  onState: (isOpen) => {
    isPushed.value = isOpen;
  },
});

effect(() => {
  if (phase.value === "in") {
    socket.open(["heads", "rounds", "votes", "peers", "jobs", "transfers", "metrics", "alerts", "models", "logs"]);
  } else if (phase.value === "out") {
    socket.close();
    for (const track of Object.values(TRACKS)) track.clear();
  }
});
