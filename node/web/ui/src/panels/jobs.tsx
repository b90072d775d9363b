// Jobs of this node: where each is, what every shard and peer did, the verdict, the money, the proof.
import { useState } from "preact/hooks";
import { Age, Bar, Do, Facts, Ftns, Id, Panel, Shown, Sign, reachable, type Tone } from "../parts/bits";
import { count, ftns, share, short, span } from "../parts/format";
import { jobs as jobEvents } from "../state/live";
import { use } from "../state/poll";
import { act, said } from "../state/session";
import { cursor } from "../state/tape";
import { go, place } from "../state/view";
import type { Job } from "../rpc/types";
import { Waterfall } from "./waterfall";

const STATES: Record<Job["state"], Tone> = { planned: "busy", locked: "busy", running: "busy", settling: "busy", done: "well", failed: "bad" };

export function Jobs() {
  const list = use("job_list", { limit: 40 }, { every: 2500, isKept: true });
  const picked = place.value.pick;
  const items = past(list.data?.items ?? []);
  const listed = items.find((job) => job.job_id === picked);
  const older = use("job_get", { job_id: picked }, { every: 5000, isOff: !picked || listed !== undefined || items.length === 0 });
  const one = listed ?? (picked ? older.data : undefined) ?? items[0];
  return (
    <div class="sheet">
      <Panel title="Jobs" width="w5" meta={list.data && summary(items)}>
        <Shown view={list} empty={() => items.length === 0 && <>No job was asked for{cursor.value === null ? "" : " by then"}. Ask for one: <code>prsm run MODEL "a text"</code>, or in the <a href="#/playground">playground</a>.</>}>
          {() => (
            <div class="scroll tall" ref={reachable}>
              <table>
                <thead><tr><th>job</th><th>state</th><th class="n">rows</th><th class="n">paid, FTNS</th><th>asked</th></tr></thead>
                <tbody>
                  {items.map((job) => (
                    <tr class="pick" aria-selected={job.job_id === one?.job_id} onClick={() => go("jobs", job.job_id)}>
                      <td><button type="button" class="rowlink mono">{short(job.job_id)}</button></td>
                      <td><Sign tone={STATES[job.state]}>{job.state}</Sign></td>
                      <td class="n">{job.rows_done === job.rows ? count(job.rows) : `${count(job.rows_done)} of ${count(job.rows)}`}</td>
                      <td class="n">{ftns(job.paid)}</td>
                      <td><Age at={job.created} /></td>
                    </tr>
                  ))}
                </tbody>
              </table>
              {list.data?.next_cursor && <p class="quiet small">The newest 40; all: <code>prsm job ls</code></p>}
            </div>
          )}
        </Shown>
      </Panel>
      {one ? <OneJob job={one} /> : <Panel title="A job" width="w7"><p class="empty">Its stages, peers and payments show here.</p></Panel>}
      {one && (
        <Panel title="Waterfall" meta={`${one.stages} ${one.stages === 1 ? "stage" : "stages"}, ${one.workers.length} parts of work`}>
          <Waterfall job={one} />
        </Panel>
      )}
    </div>
  );
}

/** With the cursor in the past, jobs as they were then. */
function past(items: Job[]): Job[] {
  const at = cursor.value;
  if (at === null) return items;
  return items
    .filter((job) => Date.parse(job.created) <= at)
    .map((job) => jobEvents.between(0, at).filter((mark) => mark.value.job_id === job.job_id).at(-1)?.value ?? job);
}

function summary(items: Job[]): string {
  const running = items.filter((job) => !job.is_over).length;
  const failed = items.filter((job) => job.state === "failed").length;
  return `${running} running, ${items.length - running - failed} done, ${failed} failed`;
}

function OneJob({ job }: { job: Job }) {
  const caught = job.workers.filter((one) => one.verdict === "outvoted").length;
  const lost = job.workers.filter((one) => one.verdict === "lost").length;
  return (
    <Panel title={<>Job <Id of={job.job_id} /></>} width="w7" meta={<Sign tone={STATES[job.state]}>{job.state}</Sign>} acts={
      <>
        {!job.is_over && <Do method="job_cancel" params={{ job_id: job.job_id }} ask="Stop this job? What is not settled comes back.">Cancel</Do>}
        <Proof job={job} />
      </>
    }>
      {!job.is_over && <Bar label={`${job.rows_done} of ${job.rows} rows`} parts={[{ size: job.rows_done / Math.max(1, job.rows), tone: "blue", name: "done" }]} />}
      <Facts
        rows={[
          ["model", <a href={`#/models/${job.model}`}>{short(job.model)}</a>],
          ["rows", `${count(job.rows)} in ${job.batches.length} micro-batches`],
          ["asked", <Age at={job.created} />],
          ["locked", job.lock_height > 0 ? <><Ftns of={job.locked} /> in <a href={`#/ledger/${job.lock_height}`}>block {job.lock_height}</a></> : "not yet"],
          ["ran", job.run_ms > 0 ? `${span(job.run_ms)}, ${count(Math.round((1000 * job.rows) / job.run_ms))} rows/s` : "not yet"],
          ["settled", job.settled_heights.length > 0 ? job.settled_heights.map((height) => <><a href={`#/ledger/${height}`}>block {height}</a> </>) : "not yet"],
          ["checked", caught > 0 ? <Sign tone="bad">{caught} answers outvoted, not paid</Sign> : job.state === "done" ? <Sign tone="well">all answers agreed</Sign> : "under way"],
          lost > 0 && ["lost", <Sign tone="warn">{lost} replaced</Sign>],
        ]}
      />
      <h3>Money</h3>
      <Bar
        label={`locked ${ftns(job.locked)}: paid ${ftns(job.paid)}, back ${ftns(job.refunded)}`}
        parts={[
          { size: share(job.paid, job.locked), tone: "green", name: `paid ${ftns(job.paid)}` },
          { size: share(job.refunded, job.locked), tone: "grey", name: `came back ${ftns(job.refunded)}` },
        ]}
      />
      <ul class="legend">
        <li><i class="green" />paid {ftns(job.paid)}</li>
        <li><i class="grey" />came back {ftns(job.refunded)}</li>
        {rest(job) > 0n && <li><i />{job.is_over ? "to the treasury" : "still locked"} {ftns(rest(job))}</li>}
      </ul>
      {job.error && <div class="fault" role="alert"><b>{job.error.what}</b><span>{job.error.reason}</span></div>}
      {job.unsettled.map((one) => <p class="is-warn small">{one.what}</p>)}
      {job.because.length > 0 && (
        <details>
          <summary>Why it was planned so</summary>
          <ul class="small quiet">{job.because.map((why) => <li>{why}</li>)}</ul>
        </details>
      )}
    </Panel>
  );
}

const rest = (job: Job): bigint => BigInt(job.locked) - BigInt(job.paid) - BigInt(job.refunded);

function Proof({ job }: { job: Job }) {
  const [why, setWhy] = useState("");
  if (job.settled_heights.length === 0) return null;
  const save = async () => {
    try {
      const document_ = await act("job_getProof", { job_id: job.job_id });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([JSON.stringify(document_, null, 1)], { type: "application/json" }));
      link.download = `prsm-proof-${job.job_id.slice(2, 10)}.json`;
      link.click();
      URL.revokeObjectURL(link.href);
      setWhy("Check it without this node: prsm proof verify FILE");
    } catch (error) {
      setWhy(said(error));
    }
  };
  return (
    <>
      <button type="button" onClick={() => void save()}>Save the proof</button>
      {why && <span class="quiet small" role="status">{why}</span>}
    </>
  );
}
