// The summary, as `lastseen status` tells it.

import { $, el, mark, put, resize } from "./dom.js";
import { age, counts, serviceLine, word } from "./model.js";

const yes = (is) => (is ? "yes" : "no");

function key({ secure, insecure, keys }) {
  if (!secure) return { value: "none", tone: "bad", text: "INSECURE: whoever reaches the port may speak" };
  const more = keys.length > 1 ? `also accepted: ${keys.slice(1).join(", ")}` : "every datagram is sealed";
  return { value: keys[0], tone: insecure ? "bad" : "good", text: insecure ? "INSECURE: none is needed" : more };
}

/** What of the rosters and settings does not fit. */
function misfits({ strangers }, peers) {
  const other = peers.filter((peer) => peer.conditions.includes("config_mismatch")).length;
  const texts = other ? [`roster or settings differ at ${other}`] : [];
  const who = strangers.map(({ server_id: id, address }) => id ?? address).join(", ");
  return who ? [...texts, `not in the roster: ${who}`] : texts;
}

/** The cards: name, value, tone, text. */
function cards(status, peers) {
  const misfit = misfits(status, peers).join("; ");
  const draining = status.draining_until ? `, draining: ${age(status.draining_seconds)} left` : "";
  const oldest = status.oldest_row_seconds;
  const { is_quorum_available: quorum, is_degraded: degraded, mass_loss: mass, self_health: self } = status;
  const proven = `${status.proven_peers} of ${status.total_peers} proven, ${status.quorum_needed} needed`;
  return [
    { name: "Quorum", value: yes(quorum), tone: quorum ? "good" : "bad", text: proven },
    {
      name: "Degraded",
      value: mass ? "mass loss" : yes(degraded),
      tone: mass || degraded ? "bad" : "good",
      text: mass ? `many were lost at once: ${counts(peers)}` : counts(peers),
    },
    {
      name: "This node",
      value: self,
      tone: self === "ok" ? "good" : "warn",
      text: `up ${age(status.uptime_seconds)}${draining}`,
    },
    {
      name: "Oldest row",
      value: oldest === null ? "none" : age(oldest),
      tone: misfit ? "warn" : "good",
      text: misfit || "roster and settings equal, as far as told",
    },
    { name: "Key", ...key(status) },
  ];
}

function makeCard() {
  return el("div", { class: "card" }, el("dt"), el("dd", { class: "value" }), el("dd", { class: "quiet" }));
}

export function showSummary({ status, peers }) {
  put($("node"), status.server_id);
  put($("cluster"), `of ${status.cluster}`);
  put($("version"), status.version);
  const all = cards(status, peers);
  [...resize($("cards"), all.length, makeCard)].forEach((card, at) => {
    const { name, value, tone, text } = all[at];
    const [title, big, small] = card.children;
    put(title, name);
    put(big, value);
    put(small, text);
    mark(card, "class", `card ${tone}`);
  });
}

const VERDICT = {
  up: "good", left: "calm", unknown: "calm", draining: "calm",
  down: "bad", refused: "bad", link_down: "bad", one_way: "bad", conflict: "bad",
};

/** Every verdict has its place always, so that none jumps. `filter(name)` is called for the one that is chosen. */
export function showVerdicts({ status, peers }, chosen, filter) {
  const all = Object.entries(status.verdicts);
  const suspected = peers.filter((peer) => word(peer) === "suspected").length;
  all.push(["suspected", suspected]);
  const make = () => {
    const button = el("button", { type: "button" }, el("b"), el("span"));
    button.addEventListener("click", () => filter(button.lastChild.textContent));
    return el("li", {}, button);
  };
  [...resize($("verdicts"), all.length, make)].forEach((item, at) => {
    const [name, count] = all[at];
    // A suspected peer whose verdict is up stands among the suspected ones.
    const shown = name === "up" ? count - suspected : count;
    put(item.firstChild.firstChild, String(shown));
    put(item.firstChild.lastChild, name);
    mark(item.firstChild, "class", `verdict ${shown ? VERDICT[name] ?? "warn" : "zero"}`);
    mark(item.firstChild, "aria-pressed", String(chosen === name));
  });
}

/** Only where there are some. */
export function showServices(services) {
  $("services").hidden = services.length === 0;
  const make = () => el("li", {}, el("b"), el("span"));
  [...resize($("services-list"), services.length, make)].forEach((item, at) => {
    const { name, text, tone } = serviceLine(services[at]);
    put(item.firstChild, text);
    put(item.lastChild, name);
    mark(item, "class", `verdict ${tone}`);
  });
}
