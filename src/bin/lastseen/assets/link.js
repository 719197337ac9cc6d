// The connection: events say when to ask, a slow poll asks anyway, and silence is told.

import { wantsEdges } from "./model.js";

/** An answer that takes longer is none. */
const TIMEOUT = 3000;
/** The node's own status is asked for so often. */
const POLL = 2000;
/** At most so often all is asked for. */
const PACE = 1000;
/** And at least so often. */
const LONGEST = 5000;

export async function ask(path) {
  const answer = await fetch(`/api/v1/${path}`, { signal: AbortSignal.timeout(TIMEOUT), cache: "no-store" });
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.message), { code: body.error });
  return body;
}

/** Calls `on.answer` with what the node says, `on.failure` with a code, `on.event` and `on.gap` from the stream. */
export function connect(on) {
  let [timer, busy, changed, last, whole, took] = [0, false, true, 0, -Infinity, 0];
  let [stream, newest] = [null, "0"];

  function schedule(wait) {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(turn, wait);
  }

  function soon() {
    changed = true;
    if (!busy) schedule(Math.max(last + PACE - performance.now(), 0));
  }

  /** All is asked for when something changed, and now and then; where that takes long less often, so that neither the
      node nor this page does nothing else. */
  const isDue = () => performance.now() - whole >= Math.max(changed ? PACE : POLL, Math.min(5 * took, LONGEST));

  async function answers() {
    const status = await ask("status");
    if (!isDue()) return { status };
    [changed, whole] = [false, performance.now()];
    const edges = wantsEdges(status);
    const paths = ["peers", edges ? "matrix?edges=all" : "matrix", "services"];
    const [{ peers }, matrix, { services }] = await Promise.all(paths.map(ask));
    return { status, peers, matrix: { ...matrix, edges }, services };
  }

  async function turn() {
    [busy, last] = [true, performance.now()];
    const answer = await answers().catch((error) => ({ failure: error.code ?? "silent" }));
    [busy, changed] = [false, changed || "failure" in answer];
    // First of all: whatever fails in the page must not end the asking.
    schedule(changed ? PACE : POLL);
    if (stream.readyState === EventSource.CLOSED && !document.hidden) listen();
    if (answer.failure) on.failure(answer.failure);
    else on.answer(answer);
    if (answer.peers) took = performance.now() - last;
  }

  function listen() {
    stream?.close();
    stream = new EventSource(`/api/v1/events?since=${encodeURIComponent(newest)}`);
    stream.onmessage = ({ data, lastEventId }) => {
      newest = lastEventId;
      on.event(JSON.parse(data));
      soon();
    };
    stream.addEventListener("reset", ({ data }) => on.gap(JSON.parse(data).lost));
    stream.onerror = soon;
  }

  // What nobody looks at asks for nothing, and leaves its place among the readers of events to others.
  function visibility() {
    if (document.hidden) {
      clearTimeout(timer);
      stream?.close();
    } else {
      on.awake();
      listen();
      soon();
    }
  }
  document.addEventListener("visibilitychange", visibility);
  visibility();
}
