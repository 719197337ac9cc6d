// The dashboard: what the node says, and whether it says anything at all.

import { openDetail, refreshDetail, startDetail } from "./detail.js";
import { $, el, mark, put } from "./dom.js";
import { connect } from "./link.js";
import { showMatrix, startMatrix } from "./matrix.js";
import { news, strip } from "./model.js";
import { filterPeers, sample, showPeers, startPeers } from "./peers.js";
import { showServices, showSummary, showVerdicts } from "./summary.js";
import { addEvent, addGap, showTimeline, startTimeline } from "./timeline.js";

const THEMES = ["system", "light", "dark"];
/** Without an answer for so long something is wrong, whatever the requests say. */
const SILENT = 6000;
/** Of what is said to screen readers so much is kept. */
const SPOKEN = 8;

const state = { status: null, peers: null, matrix: null, at: performance.now(), failure: null, told: "" };

// What is chosen stands in the address: a link shows another one the same.
const chosen = new URLSearchParams(location.hash.slice(1));

function choose(name, value) {
  if (value) chosen.set(name, value);
  else chosen.delete(name);
  history.replaceState(null, "", `#${chosen}`);
}

function select(id) {
  choose("peer", id);
  openDetail(id);
}

function filter(text) {
  choose("q", text);
  if ($("filter").value !== text) $("filter").value = text;
  filterPeers(text);
  if (state.peers) showVerdicts(state, text, toggle);
}

const toggle = (verdict) => filter(chosen.get("q") === verdict ? "" : verdict);

/** To a screen reader, which reads what is added. */
function announce(texts) {
  const log = $("announce");
  log.append(...texts.map((text) => el("p", {}, text)));
  while (log.children.length > SPOKEN) log.firstElementChild.remove();
}

function favicon(tone) {
  const colour = { good: "%231a7f4b", warn: "%23c77800", bad: "%23d1242f", calm: "%237a828e" }[tone];
  const href = $("icon").href.replace(/fill='[^']*'/, `fill='${colour}'`);
  if ($("icon").href !== href) $("icon").href = href;
}

/** Every second: ages, and whether the node still answers. */
function tick() {
  const silent = performance.now() - state.at;
  const failure = state.failure ?? (silent > SILENT ? "silent" : null);
  const { tone, text } = strip({ ...state, silent: silent / 1000, failure });
  put($("strip-text"), text);
  mark($("strip"), "class", `strip ${tone}`);
  document.body.classList.toggle("stale", Boolean(failure));
  const told = failure ?? state.status?.self_health ?? "";
  if (told !== state.told && state.status) announce(told === "ok" ? [`${state.status.server_id} answers.`] : [text]);
  state.told = told;
  if (!state.status) return;
  showTimeline(Date.parse(state.status.generated_at) + silent);
  const { is_quorum_available: quorum, is_degraded: degraded, server_id: id } = state.status;
  const worst = failure || !quorum ? "bad" : degraded || tone !== "good" ? "warn" : "good";
  favicon(failure ? "calm" : worst);
  const word = failure ? "no answer" : !quorum ? "no quorum" : degraded ? "degraded" : "ok";
  if (document.title !== `${word} · ${id}`) document.title = `${word} · ${id}`;
}

function answer(newest) {
  const begin = performance.now();
  const before = { ...state };
  Object.assign(state, newest, { at: begin, failure: null });
  if (before.peers) announce(news(before, state));
  if (newest.peers) {
    $("main").hidden = false;
    sample(state.peers);
    showPeers(state.peers);
    showMatrix(state.matrix);
    showServices(state.services);
    refreshDetail();
  }
  if (state.peers) {
    showSummary(state);
    showVerdicts(state, chosen.get("q"), toggle);
  }
  tick();
  // Only the newest is kept: a page that stays open for weeks must not grow.
  performance.clearMeasures();
  performance.measure("lastseen", { start: begin, detail: { whole: Boolean(newest.peers) } });
}

function theme() {
  const is = document.documentElement.dataset.theme ?? "system";
  put($("theme"), `Theme: ${is}`);
  return is;
}

function turnTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("lastseen-theme", next === "system" ? "" : next);
  } catch {
    // It lasts as long as the page.
  }
  theme();
}

startPeers(select);
startMatrix(select);
startTimeline(select);
startDetail(() => choose("peer", null));
theme();
$("theme").addEventListener("click", turnTheme);
$("filter").addEventListener("input", ({ target }) => filter(target.value));
filter(chosen.get("q") ?? "");
if (chosen.get("peer")) openDetail(chosen.get("peer"));
setInterval(tick, 1000);
connect({
  answer,
  failure: (code) => {
    state.failure = code;
    tick();
  },
  event: (event) => {
    addEvent(event);
    tick();
  },
  gap: addGap,
  awake: () => {
    if (!state.failure) state.at = performance.now();
  },
});
