// One peer, as `lastseen explain` tells it: the words are the node's.

import { $, el, mark, put, resize } from "./dom.js";
import { ask } from "./link.js";
import { tone } from "./model.js";

let chosen = null;

function fill(peer) {
  put($("detail-headline"), peer.explain.headline);
  mark($("detail-headline"), "class", `headline ${tone(peer)}`);
  put($("detail-meaning"), peer.explain.meaning);
  const facts = resize($("detail-facts"), peer.explain.facts.length, () => el("div", {}, el("dt"), el("dd")));
  peer.explain.facts.forEach(([name, words], at) => {
    put(facts[at].firstChild, name);
    put(facts[at].lastChild, words);
  });
}

/** Asks anew for the peer that is shown, if one is. */
export async function refreshDetail() {
  const id = chosen;
  if (id === null) return;
  try {
    const peer = await ask(`peers/${encodeURIComponent(id)}`);
    if (id === chosen) fill(peer);
  } catch (error) {
    // Of who does not answer the strip tells; what was shown last stays.
    if (id === chosen && error.code) put($("detail-headline"), error.message);
  }
}

export function openDetail(id) {
  chosen = id;
  put($("detail-title"), id);
  for (const part of ["detail-headline", "detail-meaning"]) put($(part), "");
  $("detail-facts").replaceChildren();
  if (!$("detail").open) $("detail").showModal();
  refreshDetail();
}

/** `closed()` is called when none is shown any more. */
export function startDetail(closed) {
  const dialog = $("detail");
  $("detail-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    chosen = null;
    closed();
  });
}
