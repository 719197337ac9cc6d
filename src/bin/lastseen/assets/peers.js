// The table of peers. Rows are places that are filled anew: what moves is the words, and not the page.

import { $, el, mark, put, resize, svg } from "./dom.js";
import { age, isFine, matches, sorted, tone, votes, word } from "./model.js";

const FIRST = 15;
const MORE = 200;
/** Round trips that are drawn. */
const SAMPLES = 30;
const [WIDTH, HEIGHT] = [64, 16];
const VOTES = ["healthy", "suspected", "down", "unknown"];

const COLUMNS = [
  ["peer", "Peer"], ["problem", "Verdict"], ["since", "For"], ["rtt", "Round trip"],
  ["loss", "Loss in / out"], ["observers", "Observers"], ["why", "Why"],
];

const view = { key: "problem", turned: false, most: FIRST, filter: "", newest: null, shown: [] };
const trips = new Map();

/** Remembers the round trips of an answer; of who is gone nothing stays. */
export function sample(peers) {
  const known = new Set(peers.map((peer) => peer.server_id));
  for (const id of trips.keys()) if (!known.has(id)) trips.delete(id);
  for (const { server_id: id, link } of peers) {
    const list = trips.get(id) ?? [];
    list.push(link?.is_active ? link.rtt_seconds : null);
    trips.set(id, list.slice(-SAMPLES));
  }
}

/** A line with gaps where nothing was measured, newest at the right. */
function line(list) {
  const top = Math.max(...list.map((s) => s ?? 0)) * 1.1 || 1;
  const x = (at) => WIDTH - 1 - ((list.length - 1 - at) * (WIDTH - 2)) / (SAMPLES - 1);
  const y = (s) => HEIGHT - 1 - (s / top) * (HEIGHT - 2);
  const step = (s, at) => (s === null ? "" : `${at && list[at - 1] !== null ? "L" : "M"}${x(at).toFixed(1)} ${y(s).toFixed(1)}`);
  return list.map(step).join("");
}

const percent = (ratio) => (ratio === null ? "–" : `${Math.round(ratio * 100)} %`);

function makeRow() {
  const name = el("button", { type: "button", class: "name" });
  const spark = svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" }, svg("path"));
  const bar = svg("svg", { class: "bar", viewBox: "0 0 40 6", "aria-hidden": "true" });
  VOTES.forEach((vote) => bar.append(svg("rect", { class: vote, y: "0", height: "6", width: "0" })));
  const cell = (kind, ...children) => el("td", { role: "cell", class: kind }, ...children);
  const row = el("tr", { role: "row" },
    el("th", { role: "rowheader", scope: "row", class: "peer" }, name, el("span", { class: "quiet" })),
    cell("verdict-of", el("span", { class: "chip" })),
    cell("since"),
    cell("rtt", el("span"), spark),
    cell("loss"),
    cell("observers", bar, el("span", { "aria-hidden": "true" }), el("span", { class: "hidden-visually" })),
    cell("why", el("span")));
  row.addEventListener("click", () => view.select(row.dataset.peer));
  return row;
}

function bar(node, says, total) {
  let x = 0;
  VOTES.forEach((vote, at) => {
    const width = total ? (40 * says[vote]) / total : 0;
    mark(node.children[at], "x", String(x));
    mark(node.children[at], "width", String(width));
    x += width;
  });
}

function fill(row, peer) {
  const [name, verdict, since, rtt, loss, observers, why] = row.children;
  row.dataset.peer = peer.server_id;
  put(name.firstChild, peer.server_id);
  const labels = Object.entries(peer.labels ?? {}).map(([key, value]) => `${key}=${value}`);
  put(name.lastChild, [peer.address ?? "no address", ...labels].join("  "));
  put(verdict.firstChild, word(peer));
  mark(verdict.firstChild, "class", `chip ${tone(peer)}`);
  put(since, age(peer.since_seconds));
  const trip = peer.status === "down" ? null : peer.link?.rtt_seconds;
  put(rtt.firstChild, typeof trip === "number" ? `${(trip * 1e3).toFixed(1)} ms` : "–");
  mark(rtt.lastChild.firstChild, "d", line(trips.get(peer.server_id) ?? []));
  put(loss, peer.link ? `${percent(peer.link.loss.rx)} / ${percent(peer.link.loss.tx)}` : "–");
  const total = VOTES.reduce((sum, vote) => sum + peer.observers[vote], 0);
  bar(observers.firstChild, peer.observers, total);
  put(observers.children[1], `${peer.observers.healthy}/${total}`);
  put(observers.lastChild, votes(peer.observers));
  put(why.firstChild, peer.why);
}

function head() {
  COLUMNS.forEach(([key, title], at) => {
    const cell = $("peers-head").children[at];
    if (key === "why") return;
    mark(cell, "aria-sort", key === view.key ? (view.turned ? "descending" : "ascending") : null);
    put(cell.firstChild, title);
  });
}

/** What is left out, and whether any of it is not fine. */
function rest(list) {
  const hidden = list.slice(view.most);
  const odd = hidden.filter((peer) => !isFine(peer)).length;
  $("peers-more").hidden = hidden.length === 0;
  if (list.length === 0) return "no peer matches the filter";
  if (hidden.length === 0) return view.filter ? "" : "all peers are shown";
  return `${hidden.length} more are not shown, ${odd ? `${odd} of them not up` : "all of them up"}`;
}

function draw() {
  if (!view.newest) return;
  const list = sorted(view.newest.filter((peer) => matches(peer, view.filter)), view.key, view.turned);
  const focused = document.activeElement?.closest("#peers-rows tr")?.dataset.peer;
  view.shown = list.slice(0, view.most);
  const rows = resize($("peers-rows"), view.shown.length, makeRow);
  view.shown.forEach((peer, at) => fill(rows[at], peer));
  // The focus stays with the peer, whatever place it has now.
  if (focused) [...rows].find((row) => row.dataset.peer === focused)?.querySelector("button").focus({ preventScroll: true });
  head();
  const { length: total } = view.newest;
  const order = view.key === "problem" && !view.turned ? ", problems first" : "";
  put($("peers-count"), view.filter ? `${list.length} of ${total} match` : `${total}${order}`);
  put($("peers-rest"), rest(list));
}

export function showPeers(peers) {
  view.newest = peers;
  draw();
}

export function filterPeers(filter) {
  [view.filter, view.most] = [filter.trim(), FIRST];
  draw();
}

/** `select(id)` is called for the peer that is chosen. */
export function startPeers(select) {
  view.select = select;
  for (const [key, title] of COLUMNS) {
    const cell = el("th", { role: "columnheader", scope: "col", class: key });
    if (key === "why") cell.append(title);
    else {
      const button = el("button", { type: "button" }, title);
      button.addEventListener("click", () => {
        [view.turned, view.key] = [key === view.key && !view.turned, key];
        draw();
      });
      cell.append(button);
    }
    $("peers-head").append(cell);
  }
  $("peers-more").addEventListener("click", () => {
    view.most += MORE;
    draw();
  });
}
