// Who is meant by a peer id, an operator or an account, as far as this node knows.
import { use } from "./poll";
import { short } from "../parts/format";

export interface Names {
  peer: (peerId: string) => string;
  account: (address: string) => string;
  peerOf: (account: string) => string | undefined;
  mine: string | undefined;
  myPeer: string | undefined;
}

interface Capacity {
  worker?: string;
}

export function useNames(): Names {
  const status = use("node_getStatus", {}, { every: 3000, isKept: true }).data;
  const offers = use("net_getAnnouncements", { topic: "capacity" }, { every: 15_000 }).data;
  const peers = new Map<string, string>();
  for (const one of offers?.items ?? []) {
    const worker = (one.content as Capacity).worker;
    if (worker) peers.set(worker, one.peer_id);
  }
  const mine = status?.wallet ?? undefined;
  const peer = (peerId: string) => (peerId === status?.peer_id ? "this node" : short(peerId));
  const account = (address: string) => {
    if (address === mine) return "this node";
    const found = peers.get(address);
    return found ? peer(found) : short(address);
  };
  return { peer, account, peerOf: (address) => peers.get(address), mine, myPeer: status?.peer_id };
}
