// The shard map: each cut of a model as a strip of stages, and which workers announce each stage.
import { Panel, Sign, reachable } from "../parts/bits";
import { bytes } from "../parts/format";
import { useNames } from "../state/names";
import { use } from "../state/poll";
import type { ModelInfo } from "../rpc/types";

interface Capacity {
  slots?: number;
  slots_free?: number;
  price_per_row?: number;
  classes?: Array<{ model: string; stages: number; stage: number }>;
}

/** The CID as announcements write it: 0x and its bytes; text is base32 behind a "b". */
function cidBytes(text: string): string {
  const signs = "abcdefghijklmnopqrstuvwxyz234567";
  let bits = 0;
  let value = 0;
  let hex = "0x";
  for (const sign of text.slice(1)) {
    value = (value << 5) | signs.indexOf(sign);
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      hex += ((value >> bits) & 255).toString(16).padStart(2, "0");
      value &= (1 << bits) - 1;
    }
  }
  return hex;
}

export function Shards({ model, holders }: { model: ModelInfo; holders: string[] }) {
  const names = useNames();
  const offers = use("net_getAnnouncements", { topic: "capacity" }, { every: 15_000 });
  const wanted = cidBytes(model.cid);
  const peers = (offers.data?.items ?? []).map((one) => ({ peer: one.peer_id, content: one.content as Capacity }));
  const cuts = model.stages.length > 0 ? model.stages : [1];
  return (
    <Panel title="Shard map" width="w7" meta="which workers are ready for which stage">
      {cuts.map((stages) => (
        <div class="cut">
          <h3>{stages === 1 ? "In one piece" : `In ${stages} stages`}</h3>
          <div class="scroll" ref={reachable}>
            <table class="shards">
              <thead>
                <tr><th>worker</th>{Array.from({ length: stages }, (_one, stage) => <th>stage {stage + 1}</th>)}<th class="n">slots free</th></tr>
              </thead>
              <tbody>
                {peers.map(({ peer, content }) => (
                  <tr>
                    <td>{names.peer(peer)}</td>
                    {Array.from({ length: stages }, (_one, stage) => {
                      const isReady = content.classes?.some((one) => one.model === wanted && one.stages === stages && one.stage === stage);
                      return <td><Sign tone={isReady ? "well" : "idle"}>{isReady ? "ready" : "no"}</Sign></td>;
                    })}
                    <td class="n">{content.slots_free ?? "–"} of {content.slots ?? "–"}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </div>
      ))}
      {peers.length === 0 && <p class="empty">No worker announces anything now.</p>}
      <p class="quiet small">{bytes(model.size_bytes)} on {holders.length} nodes: {holders.map(names.peer).join(", ") || "none"}</p>
    </Panel>
  );
}
