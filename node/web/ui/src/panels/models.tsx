// Models: what is here, how they are cut and who holds which part, how well they are served.
import { Age, Bar, Do, Facts, Id, Panel, Shown, Sign, reachable, type Tone } from "../parts/bits";
import { bytes, count, short, span } from "../parts/format";
import { useNames } from "../state/names";
import { use } from "../state/poll";
import { go, place } from "../state/view";
import type { ModelInfo, TaskInfo } from "../rpc/types";
import { Shards } from "./shards";

const STATES: Record<ModelInfo["state"], Tone> = { held: "well", shared: "well", partial: "warn", absent: "idle", offline: "warn" };

export function Models() {
  const list = use("model_list", { limit: 200 }, { every: 6000, isKept: true });
  const copies = use("storage_getCopies", {}, { every: 12_000 });
  const picked = place.value.pick;
  const items = list.data?.items ?? [];
  const one = items.find((model) => model.cid === picked || model.ref === picked) ?? items[0];
  return (
    <div class="sheet">
      <Panel title="Models" width="w7" meta={list.data && `${items.length} known`}>
        <Shown view={list} empty={(all) => all.items.length === 0 && <>No model is known here. Add one: <code>prsm model add FILE.onnx --name NAME</code>, or fetch one: <code>prsm model pull NAME</code>.</>}>
          {(all) => (
            <div class="scroll" ref={reachable}>
              <table>
                <thead><tr><th>model</th><th>here</th><th class="n">size</th><th class="n">copies</th><th>cut into</th><th>publisher</th></tr></thead>
                <tbody>
                  {all.items.map((model) => {
                    const copy = copies.data?.items.find((row) => row.cid === model.cid);
                    return (
                      <tr class="pick" aria-selected={model.cid === one?.cid} onClick={() => go("models", model.cid)}>
                        <td><button type="button" class="rowlink">{model.ref}</button>{model.sealed && <span class="quiet small"> sealed</span>}</td>
                        <td><Sign tone={STATES[model.state]}>{model.state === "partial" ? `${Math.round((100 * model.held_bytes) / Math.max(1, model.size_bytes))} %` : model.state}</Sign></td>
                        <td class="n">{bytes(model.size_bytes)}</td>
                        <td class="n">{copy ? <span class={copy.short_ms !== null ? "is-warn" : ""}>{copy.holders.length} of {copy.copies}</span> : "–"}</td>
                        <td>{model.stages.join(", ")}</td>
                        <td><Id of={model.publisher} /></td>
                      </tr>
                    );
                  })}
                </tbody>
              </table>
            </div>
          )}
        </Shown>
      </Panel>
      <Transfers />
      {one && <Card model={one} />}
      {one && <Shards model={one} holders={copies.data?.items.find((row) => row.cid === one.cid)?.holders ?? []} />}
      {one && <Health model={one} />}
    </div>
  );
}

function Transfers() {
  const tasks = use("task_list", { limit: 20 }, { every: 1500, isKept: true });
  return (
    <Panel title="Fetching, checking, adding" width="w5">
      <Shown view={tasks} empty={(all) => all.items.length === 0 && "Nothing is under way, and nothing was since the node started."}>
        {(all) => <ul class="stack">{all.items.slice(0, 8).map((task) => <Task task={task} />)}</ul>}
      </Shown>
    </Panel>
  );
}

function Task({ task }: { task: TaskInfo }) {
  const isOn = task.state === "running";
  const tone: Tone = task.state === "done" ? "well" : task.state === "failed" ? "bad" : isOn ? (task.stalled_ms > 0 ? "warn" : "busy") : "idle";
  const pace = task.stalled_ms > 0 ? `stalled for ${span(task.stalled_ms)}` : `${bytes(task.rate_bytes_per_s)}/s${task.eta_ms === null ? "" : `, ${span(task.eta_ms)} left`}`;
  return (
    <li>
      <div class="row">
        <Sign tone={tone}>{task.kind} {task.subject}</Sign>
        <span class="quiet small">{isOn ? pace : <>{task.state} <Age at={task.ended} /></>}</span>
        {isOn && <Do method="task_cancel" params={{ task_id: task.task_id }}>Cancel</Do>}
      </div>
      {isOn && task.size_bytes > 0 && (
        <Bar label={`${bytes(task.done_bytes)} of ${bytes(task.size_bytes)}`} parts={[{ size: task.done_bytes / task.size_bytes, tone: task.stalled_ms > 0 ? "gold" : "blue", name: "here" }]} />
      )}
      {task.error && <p class="is-bad small wrap">{task.error.what}</p>}
    </li>
  );
}

function Card({ model }: { model: ModelInfo }) {
  const detail = use("model_get", { ref: model.cid, offline: true }, { every: 60_000 });
  const ref = model.cid;
  return (
    <Panel title={model.ref} width="w5" acts={
      <>
        <button type="button" onClick={() => go("playground", model.ref)}>Try it</button>
        {model.state !== "held" && <Do method="model_startPull" params={{ ref }} main>Fetch</Do>}
        {model.state === "held" && <Do method="model_startVerify" params={{ ref }}>Check every block</Do>}
        {model.pins.includes("user") ? <Do method="model_unpin" params={{ ref }}>Unpin</Do> : <Do method="model_pin" params={{ ref }}>Pin</Do>}
      </>
    }>
      <Facts
        rows={[
          ["CID", <Id of={model.cid} />],
          ["publisher", <a href={`#/ledger/${model.publisher}`}>{short(model.publisher)}</a>],
          ["on the ledger", model.registered ? "named there" : "no"],
          ["pinned", model.pins.join(", ") || "no"],
        ]}
      />
      <Shown view={detail} freshFor={Infinity}>
        {(full) => (
          <>
            <Facts
              rows={[
                ["kind", `${full.kind}, ${full.runtime}`],
                ["licence", full.licence],
                ["made", <Age at={full.created} />],
                ["signed", full.signed ? <Sign tone="well">by its publisher</Sign> : <Sign tone="warn">not signed</Sign>],
                ["takes", full.inputs.map((one) => `${one.name}: ${one.dtype} (${one.shape.join(", ")})`).join("; ")],
                ["gives", full.outputs.map((one) => `${one.name}: ${one.dtype} (${one.shape.join(", ")})`).join("; ")],
              ]}
            />
            {full.scores.length > 0 && <p class="quiet small">{full.scores.length} evaluations on the ledger</p>}
          </>
        )}
      </Shown>
    </Panel>
  );
}

function Health({ model }: { model: ModelInfo }) {
  const names = useNames();
  const view = use("model_getHealth", { model: model.cid }, { every: 10_000 });
  return (
    <Panel title="Replicas, as this node saw them serve">
      <Shown view={view} empty={(all) => all.items.length === 0 && "Nobody served this model to this node since it started."}>
        {(all) => (
          <div class="scroll" ref={reachable}>
            <table>
              <thead><tr><th>worker</th><th>state</th><th class="n">answered</th><th class="n">failed</th><th class="n">half within</th><th class="n">99 of 100</th><th>last fault</th></tr></thead>
              <tbody>
                {all.items.map((row) => (
                  <tr>
                    <td>{names.account(row.worker)}</td>
                    <td><Sign tone={row.state === "well" ? "well" : row.state === "failing" ? "warn" : "bad"}>{row.state === "left_out" ? "left out" : row.state}</Sign></td>
                    <td class="n">{count(row.done)}</td>
                    <td class="n">{count(row.failed)}</td>
                    <td class="n">{span(row.p50_us / 1000)}</td>
                    <td class="n">{span(row.p99_us / 1000)}</td>
                    <td class="quiet wrap">{row.errors.at(-1)?.what ?? "none"}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Shown>
    </Panel>
  );
}

