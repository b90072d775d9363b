// The network as its nodes tell it: who is linked to whom, how far, and which link one side denies.
import { forceCenter, forceCollide, forceLink, forceManyBody, forceSimulation, type SimulationLinkDatum, type SimulationNodeDatum } from "d3-force";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Age, Do, Facts, Id, Panel, Shown, Sign, useWidth, reachable } from "../parts/bits";
import { ago, short, span } from "../parts/format";
import { use, type View } from "../state/poll";
import { moment } from "../state/tape";
import { go, place } from "../state/view";
import type { Topology, TopologyLink, TopologyNode } from "../rpc/types";

interface Spot extends SimulationNodeDatum {
  id: string;
}

export function Network() {
  const topology = use("net_getTopology", {}, { every: 6000, isSlow: true, isKept: true });
  const status = use("node_getStatus", {}, { every: 3000, isKept: true });
  const peers = use("net_getPeers", { limit: 200 }, { every: 4000, isKept: true });
  const reach = use("net_getReach", {}, { every: 15_000 });
  const me = status.data?.peer_id ?? "";
  const data = topology.data;
  const odd = data ? `${data.nodes.length} nodes, ${data.links.length} links, ${data.one_sided} one-sided, ${data.silent} silent` : undefined;
  return (
    <div class="sheet">
      <Panel title="Topology" width="w8" meta={odd}>
        <Shown view={topology} empty={(all) => all.nodes.length < 2 && <>Only this node is known. Connect to another one: <code>prsm net connect ADDRESS</code>.</>}>
          {(all) => <Graph all={all} me={me} at={topology.at} />}
        </Shown>
        <Key />
      </Panel>
      <Picked view={topology} me={me} />
      <Panel title="Peers of this node" width="w8" meta={peers.data && `${peers.data.items.length} linked`}>
        <Shown view={peers} empty={(all) => all.items.length === 0 && "No peer is linked. The node goes on dialling those it knows."}>
          {(all) => (
            <div class="scroll" ref={reachable}>
              <table>
                <thead>
                  <tr><th>peer</th><th class="n">round trip</th><th>dialled by</th><th>since</th><th>address</th><th>agent</th></tr>
                </thead>
                <tbody>
                  {all.items.map((peer) => (
                    <tr>
                      <td><Id of={peer.peer_id} /></td>
                      <td class="n">{peer.rtt_ms === null ? "–" : span(peer.rtt_ms)}</td>
                      <td>{peer.direction === "in" ? "them" : "us"}{peer.relayed && ", relayed"}</td>
                      <td><Age at={peer.since} /></td>
                      <td class="mono">{peer.address.replace(/\/p2p\/.*/, "")}</td>
                      <td class="quiet">{peer.agent}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Shown>
      </Panel>
      <Panel title="How others reach this node" width="w4">
        <Shown view={reach}>
          {(how) => (
            <Facts
              rows={[
                ["verdict", <Sign tone={how.verdict === "reachable" ? "well" : how.verdict === "unknown" ? "idle" : "warn"}>{how.verdict}</Sign>],
                ["listens", <span class="mono">{how.listening.map((one) => one.replace(/\/p2p\/.*/, "")).join(" ") || "nowhere"}</span>],
                ["seen at", Object.keys(how.seen).join(", ") || "nobody said"],
                ["relays", how.places.length ? how.places.map((one) => short(one.relay)).join(", ") : "none needed"],
                ["chain", status.data && <Id of={status.data.chain_id} name={status.data.chain_id} />],
              ]}
            />
          )}
        </Shown>
      </Panel>
    </div>
  );
}

function Key() {
  const line = (kind: string, word: string) => (
    <li>
      <svg width="26" height="8" aria-hidden="true"><line x1="0" y1="4" x2="26" y2="4" class={`link ${kind}`} /></svg>
      {word}
    </li>
  );
  return (
    <ul class="legend">
      {line("near", "under 20 ms")}
      {line("mid", "under 100 ms")}
      {line("far", "over 100 ms")}
      {line("odd", "one side denies it")}
      {line("gone", "lost a while ago")}
      <li><Sign tone="bad">nobody hears it</Sign></li>
    </ul>
  );
}

function speed(link: TopologyLink): string {
  if (link.one_sided) return "odd";
  const ms = Math.max(link.rtt_ms_one ?? 0, link.rtt_ms_other ?? 0);
  return ms < 20 ? "near" : ms < 100 ? "mid" : "far";
}

const LOST_KEPT_MS = 600_000;
const lastSeen = new Map<string, { t: number; links: TopologyLink[] }>();

/** The topology with those that were there a while ago and are not now, marked as lost. */
function withLost(all: Topology, at: number): { all: Topology; lost: Map<string, number> } {
  for (const node of all.nodes) {
    lastSeen.set(node.peer_id, { t: at, links: all.links.filter((one) => one.one === node.peer_id || one.other === node.peer_id) });
  }
  const here = new Set(all.nodes.map((one) => one.peer_id));
  const lost = new Map<string, number>();
  const nodes = [...all.nodes];
  const links = [...all.links];
  for (const [id, { t, links: old }] of lastSeen) {
    if (here.has(id) || at < t || at - t > LOST_KEPT_MS) continue;
    lost.set(id, t);
    nodes.push({ peer_id: id, region: "", told_by: "nobody", links: 0, age_ms: at - t, why: "lost" });
    links.push(...old.filter((one) => here.has(one.one) || here.has(one.other)));
  }
  return { all: { ...all, nodes, links }, lost };
}

function Graph({ all: told, me, at: when }: { all: Topology; me: string; at: number }) {
  const { all, lost } = withLost(told, when);
  const [measure, width] = useWidth();
  const height = width < 500 ? 300 : 420;
  const spots = useRef(new Map<string, Spot>());
  const [, redraw] = useState(0);
  const shape = all.nodes.map((one) => one.peer_id).join() + all.links.map((one) => one.one + one.other).join();
  const moving = useMemo(() => {
    const old = spots.current;
    const nodes = all.nodes.map((one, index) => {
      const angle = (2 * Math.PI * index) / all.nodes.length;
      const found = old.get(one.peer_id);
      return found ?? { id: one.peer_id, x: Math.cos(angle) * 90, y: Math.sin(angle) * 90 };
    });
    spots.current = new Map(nodes.map((one) => [one.id, one]));
    const links: Array<SimulationLinkDatum<Spot>> = all.links
      .filter((one) => spots.current.has(one.one) && spots.current.has(one.other))
      .map((one) => ({ source: one.one, target: one.other }));
    return forceSimulation<Spot>(nodes)
      .force("charge", forceManyBody<Spot>().strength(-520))
      .force("link", forceLink<Spot, SimulationLinkDatum<Spot>>(links).id((one) => one.id).distance(130).strength(0.35))
      .force("near", forceCollide<Spot>(34))
      .force("middle", forceCenter(0, 0))
      .stop();
  }, [shape]);
  useEffect(() => {
    // Settled at once: a graph that dances tells nothing more.
    moving.alpha(1).tick(Math.max(40, Math.min(240, Math.round(24_000 / Math.max(1, moving.nodes().length)))));
    redraw((n) => n + 1);
  }, [moving]);
  const frame = fit([...spots.current.values()], width, height);
  const at = (id: string) => {
    const spot = spots.current.get(id);
    return spot ? frame(spot.x ?? 0, spot.y ?? 0) : [0, 0];
  };
  const picked = place.value.pick;
  return (
    <div ref={measure} class="graph">
      {width > 0 && (
        <svg width={width} height={height} role="group" aria-label="Nodes and links of the network">
          {all.links.map((link) => {
            const [x1, y1] = at(link.one);
            const [x2, y2] = at(link.other);
            const isNear = !picked || picked === link.one || picked === link.other;
            return (
              <line class={`link ${lost.has(link.one) || lost.has(link.other) ? "gone" : speed(link)} ${isNear ? "" : "dim"}`} x1={x1} y1={y1} x2={x2} y2={y2}>
                <title>{`${short(link.one)} – ${short(link.other)}: ${link.rtt_ms_one ?? "?"} / ${link.rtt_ms_other ?? "?"} ms, dialled by ${link.dialled_by}`}</title>
              </line>
            );
          })}
          {all.nodes.map((node) => {
            const [x, y] = at(node.peer_id);
            return <Dot node={node} x={x ?? 0} y={y ?? 0} isMe={node.peer_id === me} isPicked={node.peer_id === picked} isNamed={all.nodes.length <= 60 || node.peer_id === me || node.peer_id === picked} lost={lost.get(node.peer_id)} />;
          })}
        </svg>
      )}
    </div>
  );
}

interface DotProps {
  node: TopologyNode;
  x: number;
  y: number;
  isMe: boolean;
  isPicked: boolean;
  isNamed: boolean;
  lost: number | undefined;
}
function Dot({ node, x, y, isMe, isPicked, isNamed, lost }: DotProps) {
  const isSilent = node.told_by === "nobody";
  const pick = () => go("network", isPicked ? "" : node.peer_id);
  const name = isMe ? "this node" : short(node.peer_id);
  const gone = lost === undefined ? "" : `lost ${ago(moment.value - lost)}`;
  return (
    <g
      class={`dot ${isMe ? "me" : ""} ${isSilent ? "silent" : ""} ${isPicked ? "picked" : ""}`}
      transform={`translate(${x} ${y})`}
      role="button"
      tabIndex={0}
      aria-pressed={isPicked}
      aria-label={`${name}, ${node.links} links${gone ? `, ${gone}` : isSilent ? ", heard by nobody" : ""}`}
      onClick={pick}
      onKeyDown={(event: KeyboardEvent) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        pick();
      }}
    >
      <circle r="17" class="hit" />
      <circle r={isMe ? 9 : 7} class="core" />
      {isSilent && <path d="M-3.5-3.5l7 7M3.5-3.5l-7 7" class="cross" />}
      {isNamed ? <text y="24">{name}</text> : <title>{name}</title>}
      {gone && <text y="38" class="gone">{gone}</text>}
    </g>
  );
}

function fit(spots: Spot[], width: number, height: number): (x: number, y: number) => [number, number] {
  const xs = spots.map((one) => one.x ?? 0);
  const ys = spots.map((one) => one.y ?? 0);
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  const [y0, y1] = [Math.min(...ys), Math.max(...ys)];
  const pad = 48;
  const scale = Math.min((width - 2 * pad) / Math.max(1, x1 - x0), (height - 2 * pad) / Math.max(1, y1 - y0), 2.2);
  return (x, y) => [width / 2 + (x - (x0 + x1) / 2) * scale, height / 2 + (y - (y0 + y1) / 2) * scale];
}

function Picked({ view, me }: { view: View<Topology>; me: string }) {
  const id = place.value.pick;
  const node = view.data?.nodes.find((one) => one.peer_id === id);
  if (!node) {
    return (
      <Panel title="A node" width="w4">
        <p class="empty">Pick a node of the graph to see its links from both ends.</p>
      </Panel>
    );
  }
  const links = view.data?.links.filter((one) => one.one === id || one.other === id) ?? [];
  return (
    <Panel title={id === me ? "This node" : "A node"} width="w4" acts={id !== me && <Do method="net_ban" params={{ peer_id: id }} ask={`Keep ${short(id)} out for a day?`}>Ban for a day</Do>}>
      <Facts rows={[["peer", <Id of={id} />], ["told by", node.told_by], node.region !== "" && ["region", node.region], node.age_ms > 0 && ["heard", `${span(node.age_ms)} ago`], node.why !== "" && ["note", node.why]]} />
      <h3>Links</h3>
      <table>
        <thead><tr><th>to</th><th class="n">it says</th><th class="n">they say</th><th>state</th></tr></thead>
        <tbody>
          {links.map((link) => {
            const isOne = link.one === id;
            return (
              <tr>
                <td><Id of={isOne ? link.other : link.one} name={(isOne ? link.other : link.one) === me ? "this node" : undefined} /></td>
                <td class="n">{(isOne ? link.rtt_ms_one : link.rtt_ms_other) ?? "–"} ms</td>
                <td class="n">{(isOne ? link.rtt_ms_other : link.rtt_ms_one) ?? "–"} ms</td>
                <td>{link.one_sided ? <Sign tone="warn">one-sided</Sign> : link.relayed ? "relayed" : "both"}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </Panel>
  );
}
