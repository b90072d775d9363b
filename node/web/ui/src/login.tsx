// The way in: a code in the address, or a token pasted by hand. Tokens stay in memory.
import { useEffect, useRef, useState } from "preact/hooks";
import { enter, phase, wanted, whyOut } from "./state/session";

export function Login() {
  const [given, setGiven] = useState("");
  const isBusy = phase.value === "entering";
  const submit = (event: Event) => {
    event.preventDefault();
    if (given.trim()) void enter(given.trim());
  };
  return (
    <main class="login" id="content">
      <div>
        <img src="/favicon.svg" alt="" width="40" height="40" />
        <h1>PRSM node</h1>
        <p>Type <code>prsm dashboard</code> in a terminal: it opens this page and logs you in.</p>
        <form onSubmit={submit}>
          <label>
            <span>Or paste a token, or the content of run/.cookie in the node's home</span>
            <input type="password" autocomplete="off" spellcheck={false} value={given} onInput={(event) => setGiven(event.currentTarget.value)} autoFocus />
          </label>
          <button type="submit" class="main-act" disabled={isBusy || !given.trim()}>{isBusy ? "Asking the node…" : "Enter"}</button>
        </form>
        <div aria-live="polite">{whyOut.value && <p class="fault"><b>Not let in.</b>{whyOut.value}</p>}</div>
        <p class="quiet small">The token is kept in this page's memory only. <code>prsm token new</code> makes one for somebody else.</p>
      </div>
    </main>
  );
}

/** Asks for a token that may do what ours may not. */
export function Stronger() {
  const need = wanted.value;
  const ref = useRef<HTMLDialogElement>(null);
  const [given, setGiven] = useState("");
  useEffect(() => {
    if (need) ref.current?.showModal();
    else ref.current?.close();
    setGiven("");
  }, [need]);
  return (
    <dialog ref={ref} aria-labelledby="stronger" onCancel={() => need?.done(null)}>
      <h2 id="stronger">This needs the scope “{need?.scope}”</h2>
      <form onSubmit={(event) => { event.preventDefault(); need?.done(given.trim() || null); }}>
        <p>Your token only reads. Make one that may do it: <code>prsm token new dashboard --scope read,write{need?.scope === "sign" || need?.scope === "admin" ? `,${need.scope}` : ""}</code></p>
        <label><span>Token, kept in memory until you leave</span><input type="password" autocomplete="off" value={given} onInput={(event) => setGiven(event.currentTarget.value)} /></label>
        <div class="row">
          <button type="submit" class="main-act" disabled={!given.trim()}>Use it</button>
          <button type="button" onClick={() => need?.done(null)}>Not now</button>
        </div>
      </form>
    </dialog>
  );
}
