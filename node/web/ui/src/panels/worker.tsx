// This node as a worker: what it earned, pledged, offers, and which requests it keeps tabs for.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Bar, Facts, Figure, Ftns, Id, Panel, Shown, Sign, reachable } from "../parts/bits";
import { bytes, clock, count, ftns, share } from "../parts/format";
import { Plot } from "../parts/plot";
import { useNames } from "../state/names";
import { use } from "../state/poll";

const earned = signal<Array<{ height: number; t: number; micro: number }>>([]);

interface Capacity {
  worker?: string;
  price_per_row?: number;
  slots?: number;
  slots_free?: number;
  waiting_ms?: number;
  memory_bytes?: number;
  runtime?: string;
  region?: string;
  models?: string[];
}

export function Worker() {
  const names = useNames();
  const standing = use("account_getStanding", {}, { every: 6000, isKept: true });
  const balance = use("account_getBalance", {}, { every: 4000, isKept: true });
  const offers = use("net_getAnnouncements", { topic: "capacity" }, { every: 15_000 });
  const bond = use("validator_get", {}, { every: 20_000 });
  const serving = use("serve_list", {}, { every: 5000 });
  const mine = offers.data?.items.find((one) => one.peer_id === names.myPeer)?.content as Capacity | undefined;
  const now = standing.data;
  return (
    <div class="sheet">
      <Panel title="Standing" meta={now && <>account <Id of={now.address} /></>}>
        <Shown view={standing}>
          {(all) => (
            <div class="figures">
              <Figure value={balance.data ? ftns(balance.data.balance, 3) : "–"} unit="FTNS" of="balance" />
              <Figure value={count(all.settled)} of="units settled" />
              <Figure value={count(all.faults)} of="found at fault" />
              <Figure value={count(all.clean)} of="clean in a row" />
              <Figure value={ftns(all.pledged, 2)} unit="FTNS" of={`pledged, ${ftns(all.held, 2)} held`} />
              <Figure value={`${(all.audit_bps / 100).toFixed(1)} %`} of="of its work is audited" />
            </div>
          )}
        </Shown>
      </Panel>
      <Earnings />
      <Panel title="What this node offers" width="w4">
        <Shown view={offers} empty={() => !mine && <>It offers no work. Give it a price in config.toml: <code>[worker] price</code>, then start it again.</>}>
          {() => mine && (
            <>
              <Facts
                rows={[
                  ["price of a row", <Ftns of={String(mine.price_per_row ?? 0)} />],
                  ["memory", bytes(mine.memory_bytes ?? 0)],
                  ["runtime", mine.runtime ?? ""],
                  ["models ready", mine.models?.length ?? 0],
                  ["wait", `${mine.waiting_ms ?? 0} ms`],
                ]}
              />
              <h3>Slots</h3>
              <Bar label={`${mine.slots_free} of ${mine.slots} slots free`} parts={[{ size: 1 - (mine.slots_free ?? 0) / Math.max(1, mine.slots ?? 1), tone: "blue", name: "busy" }]} />
              <p class="quiet small">{mine.slots_free} of {mine.slots} free</p>
            </>
          )}
        </Shown>
      </Panel>
      <Others />
      <Panel title="Bond as a validator" width="w4">
        <Shown view={bond}>
          {(one) => (
            <Facts
              rows={[
                ["state", <Sign tone={one.state === "validator" ? "well" : one.state === "convicted" ? "bad" : "idle"}>{one.state}</Sign>],
                ["bonded", <Ftns of={one.stake} />],
                ["weighs", <Ftns of={one.weight} />],
                one.weight_next !== one.weight && ["next epoch", <Ftns of={one.weight_next} />],
                ...one.leaving.map((out): [string, preact.JSX.Element] => ["leaving", <Ftns of={out.amount} />]),
              ]}
            />
          )}
        </Shown>
      </Panel>
      <Panel title="Tabs: locks that stand for many small requests">
        <Shown view={serving} empty={(all) => all.items.length === 0 && <>None is open. <code>prsm serve warm MODEL</code> opens one before the first request.</>}>
          {(all) => (
            <div class="scroll" ref={reachable}>
              <table>
                <thead><tr><th>tab</th><th>state</th><th class="n">answered</th><th>slots used</th><th class="n">locked, FTNS</th><th class="n">a row</th><th>workers</th></tr></thead>
                <tbody>
                  {all.items.map((tab) => (
                    <tr>
                      <td><Id of={tab.tab_id} /></td>
                      <td><Sign tone={tab.state === "open" ? "well" : tab.state === "failed" ? "bad" : "idle"}>{tab.state}</Sign></td>
                      <td class="n">{count(tab.answered)}</td>
                      <td><Bar label={`${tab.used} of ${tab.slots}`} parts={[{ size: tab.used / Math.max(1, tab.slots), tone: "blue", name: "used" }]} /></td>
                      <td class="n">{ftns(tab.locked)}</td>
                      <td class="n">{ftns(tab.price_per_row)}</td>
                      <td>{tab.workers.map(names.account).join(", ")}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Shown>
      </Panel>
    </div>
  );
}

function Earnings() {
  const chain = use("account_getBalance", {}, { every: 4000, isKept: true });
  const marks = earned.value;
  const height = chain.isPast ? undefined : chain.data?.height;
  useEffect(() => {
    if (!chain.data || height === undefined || earned.peek().at(-1)?.height === height) return;
    earned.value = [...earned.peek(), { height, t: chain.at, micro: Number(chain.data.balance) }].slice(-600);
  }, [height]);
  return (
    <Panel title="Balance since this page was opened" width="w8">
      {marks.length < 2 ? (
        <p class="empty">The line begins with the next block.</p>
      ) : (
        <Plot label="Balance" x={marks.map((mark) => mark.t / 1000)} xForm={(t) => clock(t * 1000)} form={(value) => ftns(Math.round(value), 2)} height={150}
          lines={[{ name: "balance", tone: "green", values: marks.map((mark) => mark.micro), isStep: true }]} />
      )}
    </Panel>
  );
}

function Others() {
  const names = useNames();
  const offers = use("net_getAnnouncements", { topic: "capacity" }, { every: 15_000 });
  return (
    <Panel title="Workers of the network" width="w8">
      <Shown view={offers} empty={(all) => all.items.length === 0 && "No worker announces anything now."}>
        {(all) => (
          <div class="scroll" ref={reachable}>
            <table>
              <thead><tr><th>worker</th><th class="n">a row, FTNS</th><th>busy</th><th class="n">memory</th><th class="n">models</th><th>runtime</th></tr></thead>
              <tbody>
                {all.items.map((one) => {
                  const what = one.content as Capacity;
                  const busy = 1 - Number(share(String(what.slots_free ?? 0), String(Math.max(1, what.slots ?? 1))));
                  return (
                    <tr>
                      <td>{names.peer(one.peer_id)}</td>
                      <td class="n">{ftns(what.price_per_row ?? 0)}</td>
                      <td><Bar label={`${Math.round(busy * 100)} % of its slots`} parts={[{ size: busy, tone: "blue", name: "busy" }]} /></td>
                      <td class="n">{bytes(what.memory_bytes ?? 0)}</td>
                      <td class="n">{what.models?.length ?? 0}</td>
                      <td class="quiet">{what.runtime}</td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </div>
        )}
      </Shown>
    </Panel>
  );
}
