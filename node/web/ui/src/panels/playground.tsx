// Try a model: text that streams token by token with each hop, or rows whose outputs are compared.
import { useEffect, useRef, useState } from "preact/hooks";
import { Facts, Ftns, Id, Panel, Shown, Sign, Trouble } from "../parts/bits";
import { ftns, span } from "../parts/format";
import { Refusal, type Fault } from "../rpc/client";
import { useNames } from "../state/names";
import { use } from "../state/poll";
import { act, said } from "../state/session";
import { place } from "../state/view";
import type { GenerationInfo, Job, JobPlan, TensorText } from "../rpc/types";
import { Likeness } from "./likeness";
import { Waterfall } from "./waterfall";

type Mode = "text" | "rows";

export function Playground() {
  const models = use("model_list", { limit: 200 }, { every: 8000 });
  const items = models.data?.items ?? [];
  const wanted = items.find((one) => one.ref === place.value.pick || one.cid === place.value.pick);
  const [chosen, setChosen] = useState("");
  const model = items.find((one) => one.ref === chosen) ?? wanted ?? items[0];
  const detail = use("model_get", { ref: model?.cid ?? "", offline: true }, { every: 60_000, isOff: !model });
  const writes = detail.data?.outputs.some((one) => one.name.startsWith("logits")) ?? false;
  const [mode, setMode] = useState<Mode | "">("");
  const shown: Mode = mode || (writes ? "text" : "rows");
  return (
    <div class="sheet">
      <Panel title="Playground" meta="what you run here is planned, locked and paid as any job">
        <Shown view={models} empty={(all) => all.items.length === 0 && <>No model is known here. Add one first: <code>prsm model add FILE.onnx --name NAME</code>.</>}>
          {() => (
            <div class="row">
              <label>
                <span>Model</span>
                <select value={model?.ref} onChange={(event) => setChosen(event.currentTarget.value)}>
                  {items.map((one) => <option value={one.ref}>{one.ref}</option>)}
                </select>
              </label>
              <div class="row" role="group" aria-label="What to do">
                <button type="button" aria-pressed={shown === "text"} onClick={() => setMode("text")}>Go on from a text</button>
                <button type="button" aria-pressed={shown === "rows"} onClick={() => setMode("rows")}>Run rows</button>
              </div>
            </div>
          )}
        </Shown>
      </Panel>
      {model && (shown === "text" ? <Text model={model.ref} stages={model.stages} key={`t${model.ref}`} /> : <Rows model={model.ref} key={`r${model.ref}`} />)}
    </div>
  );
}

interface Piece {
  text: string;
  ms: number;
}

function Text({ model, stages }: { model: string; stages: number[] }) {
  const [prompt, setPrompt] = useState("Once upon a time");
  const [tokens, setTokens] = useState(64);
  const [heat, setHeat] = useState(0);
  const [cut, setCut] = useState(stages.at(-1) ?? 1);
  const [isLocal, setLocal] = useState(false);
  const [now, setNow] = useState<GenerationInfo | null>(null);
  const [pieces, setPieces] = useState<Piece[]>([]);
  const [fault, setFault] = useState<unknown>(null);
  const run = useRef(0);
  useEffect(() => () => void run.current++, []);
  const isOn = now !== null && !now.is_over;
  const start = async () => {
    const mine = ++run.current;
    setFault(null);
    setPieces([]);
    try {
      let state = await act("infer_generate", { model, prompt, max_tokens: tokens, temperature: Math.round(heat * 1000), stages: isLocal ? 1 : cut, local: isLocal });
      const began = performance.now();
      while (mine === run.current) {
        setNow(state);
        if (state.text) setPieces((old) => [...old, { text: state.text, ms: performance.now() - began }]);
        if (state.is_over) break;
        state = await act("infer_readTokens", { generation_id: state.generation_id, wait_ms: 20_000 });
      }
      if (mine !== run.current) await act("infer_endGeneration", { generation_id: state.generation_id });
    } catch (error) {
      setFault(error);
    }
  };
  const stop = () => {
    run.current++;
    setNow((old) => old && { ...old, is_over: true });
  };
  return (
    <>
      <Panel title="Prompt" width="w5">
        <form class="stack" onSubmit={(event) => { event.preventDefault(); void start(); }}>
          <label><span>Text to go on from</span><textarea rows={5} value={prompt} onInput={(event) => setPrompt(event.currentTarget.value)} /></label>
          <div class="row">
            <label><span>Tokens at most</span><input type="number" min={1} max={4096} value={tokens} onInput={(event) => setTokens(Number(event.currentTarget.value))} /></label>
            <label><span>Temperature</span><input type="number" min={0} max={2} step={0.1} value={heat} onInput={(event) => setHeat(Number(event.currentTarget.value))} /></label>
            <label><span>Stages</span><select value={cut} disabled={isLocal} onChange={(event) => setCut(Number(event.currentTarget.value))}>{(stages.length ? stages : [1]).map((one) => <option value={one}>{one}</option>)}</select></label>
          </div>
          <label class="check"><input type="checkbox" checked={isLocal} onChange={(event) => setLocal(event.currentTarget.checked)} /> All on this node, nothing is locked</label>
          <div class="row">
            <button type="submit" class="main-act" disabled={isOn || !prompt}>Generate</button>
            {isOn && <button type="button" onClick={stop}>Stop</button>}
          </div>
        </form>
      </Panel>
      <Panel title="Text" width="w7" meta={now && <Sign tone={now.state === "failed" ? "bad" : now.is_over ? "well" : "busy"}>{now.is_over ? (now.finish ?? now.state) : now.state}</Sign>}>
        {fault !== null && <Trouble fault={asFault(fault)} />}
        {pieces.length === 0 && fault === null && <p class="empty">{isOn ? "Planning, locking and loading the stages; the first token comes after." : "The text appears here, piece by piece as the tokens arrive."}</p>}
        {pieces.length > 0 && (
          <p class="written" aria-live="polite">
            <span class="quiet">{prompt}</span>
            {pieces.map((one) => <span class="piece" title={`after ${span(one.ms)}`}>{one.text}</span>)}
            {isOn && <span class="caret" />}
          </p>
        )}
        {now && <Hops now={now} />}
      </Panel>
    </>
  );
}

function Hops({ now }: { now: GenerationInfo }) {
  const names = useNames();
  const pace = now.tokens_ms > 0 ? `${((1000 * Math.max(0, now.tokens - 1)) / now.tokens_ms).toFixed(1)} tokens/s` : "–";
  return (
    <>
      <ol class="hops" aria-label="The way of each token">
        <li>prompt<span class="quiet small">{now.prompt_tokens} tokens</span></li>
        {now.stages.map((who, stage) => (
          <li class={now.recoveries.some((one) => one.stage === stage) ? "mended" : ""}>
            {who === "home" ? "this node" : names.peer(who)}
            <span class="quiet small">stage {stage + 1}</span>
          </li>
        ))}
        <li>{now.tokens} tokens<span class="quiet small">{pace}</span></li>
      </ol>
      <Facts
        rows={[
          ["generation", <Id of={now.generation_id} />],
          ["first token", now.first_token_ms > 0 ? `${span(now.first_token_ms)}, after ${span(now.opened_ms)} of planning and loading` : "not yet"],
          ["locked", <Ftns of={now.locked} />],
          now.jobs.length > 0 && ["paid by", now.jobs.map((job) => <><a href={`#/jobs/${job}`}>its job</a> </>)],
        ]}
      />
      {now.recoveries.map((one) => (
        <p class="is-warn small">Stage {one.stage + 1} was lost by {names.peer(one.lost)} ({one.why}) and taken over by {names.peer(one.taken_by)} in {span(one.lost_ms)}.</p>
      ))}
    </>
  );
}

const asFault = (error: unknown): Fault => (error instanceof Refusal ? error : new Refusal(0, said(error)));

function Rows({ model }: { model: string }) {
  const [text, setText] = useState("The cat sat on the mat.\nA kitten rested on the rug.\nThe bank raised its rates.\nInterest rates went up.");
  const [plan, setPlan] = useState<JobPlan | null>(null);
  const [job, setJob] = useState<Job | null>(null);
  const [output, setOutput] = useState<TensorText | null>(null);
  const [fault, setFault] = useState<unknown>(null);
  const [isBusy, setBusy] = useState(false);
  const mine = useRef(0);
  useEffect(() => () => void mine.current++, []);
  const texts = text.split("\n").map((line) => line.trim()).filter(Boolean);
  const guard = async (what: () => Promise<void>) => {
    setFault(null);
    setBusy(true);
    try {
      await what();
    } catch (error) {
      setFault(error);
    } finally {
      setBusy(false);
    }
  };
  const quote = () => guard(async () => setPlan(await act("infer_plan", { model, texts })));
  const start = () =>
    guard(async () => {
      const turn = ++mine.current;
      setOutput(null);
      let state = await act("infer_run", { model, texts });
      setJob(state);
      while (!state.is_over && turn === mine.current) {
        state = await act("job_get", { job_id: state.job_id, wait_ms: 300 });
        setJob(state);
      }
      if (turn === mine.current && state.state === "done") {
        setOutput((await act("job_getResult", { job_id: state.job_id })).outputs[0] ?? null);
      }
    });
  return (
    <>
      <Panel title="Rows" width="w5" meta={`${texts.length} rows`}>
        <form class="stack" onSubmit={(event) => { event.preventDefault(); void start(); }}>
          <label><span>One text a line</span><textarea rows={7} value={text} onInput={(event) => setText(event.currentTarget.value)} /></label>
          <div class="row">
            <button type="submit" class="main-act" disabled={isBusy || texts.length === 0}>Run</button>
            <button type="button" disabled={isBusy || texts.length === 0} onClick={() => void quote()}>What would it cost?</button>
          </div>
        </form>
        {plan && (
          <>
            <h3>It would be</h3>
            <Facts
              rows={[
                ["price", <Ftns of={plan.amount} />],
                ["layout", `${plan.mode}, ${plan.stages} ${plan.stages === 1 ? "stage" : "stages"}, ${plan.units.length} ${plan.units.length === 1 ? "part" : "parts"}`],
                plan.plan_ms !== null && ["estimate", span(plan.plan_ms)],
              ]}
            />
            <ul class="small quiet">{plan.because.map((why) => <li>{why}</li>)}</ul>
          </>
        )}
      </Panel>
      <Panel title="Result" width="w7" meta={job && <Sign tone={job.state === "failed" ? "bad" : job.is_over ? "well" : "busy"}>{job.state}, {job.rows_done} of {job.rows} rows</Sign>}>
        {fault !== null && <Trouble fault={asFault(fault)} />}
        {!job && fault === null && <p class="empty">The rows go through the model on other nodes, each part on at least two; what they agree on comes back here.</p>}
        {job && <p>Paid {ftns(job.paid)} of {ftns(job.locked)} FTNS. <a href={`#/jobs/${job.job_id}`}>The job, with its proof</a></p>}
        {job?.error && <div class="fault" role="alert"><b>{job.error.what}</b></div>}
        {output && <Likeness tensor={output} texts={texts} />}
      </Panel>
      {job && <Panel title="Each hop"><Waterfall job={job} /></Panel>}
    </>
  );
}
