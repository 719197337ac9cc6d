// What the answers mean: pure functions of the JSON of /api/v1, in the words of the terminal's views.

/** So many nodes are a whole grid; of more only what is not fine is shown. */
export const WHOLE = 60;
/** The most rows and columns of faults. */
export const FAULTS = 40;
/** Above so many edges the node is asked for the exceptions alone. */
const EDGES = 20000;

const own = (object, key) => (object && Object.hasOwn(object, key) ? object[key] : undefined);

/** Seconds as people say them: 0.3 s, 42 s, 9 min, 4 h 2 min, 12 d 4 h. */
export function age(seconds) {
  const s = Math.floor(Math.max(seconds, 0));
  if (s < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const clock = (rfc3339) => `${rfc3339.slice(11, 19)} UTC`;

// Peers

export const isFine = (peer) => peer.verdict === "up" && peer.status === "healthy";

const NO_ALARM = ["left", "unknown", "draining"];

/** bad, warn, calm (no alarm) or good. */
export function tone(peer) {
  if (isFine(peer)) return "good";
  if (NO_ALARM.includes(peer.verdict)) return "calm";
  return peer.status === "down" || ["link_down", "one_way", "conflict"].includes(peer.verdict) ? "bad" : "warn";
}

/** A peer that is suspected, and nothing is known to be wrong with it, is "up" by its verdict. */
export const word = (peer) => (peer.verdict === "up" && peer.status !== "healthy" ? peer.status : peer.verdict);

/** How many there are of each word but up; those that are no alarm behind the others. */
export function counts(peers) {
  const of = { alarms: new Map(), others: new Map() };
  for (const peer of peers) {
    if (isFine(peer)) continue;
    const list = NO_ALARM.includes(peer.verdict) ? of.others : of.alarms;
    list.set(word(peer), (list.get(word(peer)) ?? 0) + 1);
  }
  const list = (map) => [...map].map(([name, count]) => `${count} ${name}`).join(", ");
  const [alarms, others] = [list(of.alarms), list(of.others)];
  if (!others) return alarms || "all up";
  return alarms ? `${alarms} (${others}: no alarm)` : `${others}: no alarm`;
}

const labels = (peer) => Object.entries(peer.labels ?? {}).map(([key, value]) => `${key}=${value}`);

/** Whether a peer has every word of the filter in its id, its verdict or a label. */
export function matches(peer, filter) {
  const words = [peer.server_id, word(peer), peer.status, ...labels(peer)].map((text) => text.toLowerCase());
  return filter.toLowerCase().split(/\s+/).every((part) => words.some((text) => text.includes(part)));
}

const names = new Intl.Collator("en", { numeric: true });
const TONES = ["bad", "warn", "calm", "good"];
/** The worst first, and of those who is down. */
const rank = (peer) => 2 * TONES.indexOf(tone(peer)) + (peer.status === "down" ? 0 : 1);
const loss = (peer) => Math.max(peer.link?.loss.rx ?? -1, peer.link?.loss.tx ?? -1);

const KEYS = {
  problem: (a, b) => rank(a) - rank(b),
  peer: () => 0,
  since: (a, b) => a.since_seconds - b.since_seconds,
  rtt: (a, b) => (b.link?.rtt_seconds ?? -1) - (a.link?.rtt_seconds ?? -1),
  loss: (a, b) => loss(b) - loss(a),
  observers: (a, b) => b.observers.down - a.observers.down || a.observers.healthy - b.observers.healthy,
};

/** By one column; what is equal by name. */
export function sorted(peers, key, turned) {
  const order = (a, b) => KEYS[key](a, b) || names.compare(a.server_id, b.server_id);
  const list = [...peers].sort(order);
  return turned ? list.reverse() : list;
}

/** The votes on a peer, in words. */
export function votes({ healthy, suspected, down, unknown }) {
  const parts = [[healthy, "healthy"], [suspected, "suspected"], [down, "down"], [unknown, "without a fresh row"]];
  return parts.filter(([count]) => count).map(([count, name]) => `${count} ${name}`).join(", ") || "nobody observes it";
}

// The matrix

/** What one node can see of another: its sign and legend as in the terminal, and the sentence for it. */
export const KINDS = {
  fine: { sign: ".", legend: "fine", say: (a, b) => `${a} hears ${b}` },
  link: { sign: "x", legend: "link down", tone: "bad", say: (a, b) => `${a} does not hear ${b}, others do: link down` },
  tx: { sign: "<", legend: "it does not hear me", tone: "bad", say: (a, b) => `${b} does not hear ${a}` },
  rx: { sign: ">", legend: "I do not hear it", tone: "bad", say: (a, b) => `${a} does not hear ${b}` },
  suspected: { sign: "s", legend: "suspected", tone: "warn", say: (a, b) => `${a} suspects ${b}` },
  down: { sign: "D", legend: "down", tone: "bad", say: (a, b) => `${a} calls ${b} down` },
  lossy: { sign: "~", legend: "lossy", tone: "warn", say: (a, b) => `datagrams between ${a} and ${b} are lost` },
  self: { sign: "=", legend: "self", tone: "self", say: (a) => `${a} itself` },
  stale: { sign: "?", legend: "no fresh row", tone: "warn", say: (a, b) => `what ${a} hears of ${b} is not known` },
  unknown: { sign: "u", legend: "never heard", tone: "warn", say: (a, b) => `${a} has never heard ${b}` },
  cut: { sign: "?", tone: "warn", say: (a, b) => `${a} does not tell of ${b}: its row was cut` },
  none: { sign: "", legend: "not observed", tone: "none", say: (a, b) => `${a} does not observe ${b}` },
  untold: { sign: "", tone: "none", say: (a, b) => `${a} tells nothing bad of ${b}` },
};

/** Whether the node is to be asked for every edge, or for the exceptions alone. */
export function wantsEdges({ total_peers: nodes, observers }) {
  const each = observers === "all" || (observers === "auto" && nodes <= 65) ? nodes - 1 : 16;
  return nodes * (Number(observers) || each) <= EDGES;
}

/** Which of KINDS a cell is. Without `edges` what is not told may be fine. */
export function kind({ rows, edges }, from, to) {
  const row = own(rows, from);
  const cell = own(row?.peers, to);
  if (from === to) return "self";
  if (typeof row?.age_seconds !== "number") return "stale";
  if (!cell) return row.cut ? "cut" : edges ? "none" : "untold";
  if (["down", "suspected", "unknown"].includes(cell.status)) return cell.status;
  return own({ down: "link", tx_lost: "tx", rx_lost: "rx", lossy: "lossy" }, cell.link) ?? "fine";
}

/** How old a row is, or the last word of a node whose row is not believed any more. */
export function rowAge(row) {
  if (typeof row?.age_seconds === "number") return age(row.age_seconds);
  return typeof row?.stale_seconds === "number" ? `${age(row.stale_seconds)}, stale` : "none";
}

export const sentence = (matrix, from, to) =>
  `${KINDS[kind(matrix, from, to)].say(from, to)}; row of ${from}: ${rowAge(own(matrix.rows, from))}${typeof own(matrix.rows, from)?.age_seconds === "number" ? " old" : ""}`;

/** The rows and columns that are shown: all, or those with faults, the worst of them if there are many. */
export function selection(matrix) {
  const { nodes, rows } = matrix;
  const silent = nodes.filter((id) => typeof own(rows, id)?.age_seconds !== "number");
  const [from, to] = [new Map(), new Map()];
  let faulty = 0;
  for (const observer of nodes) {
    if (silent.includes(observer)) continue;
    for (const subject of Object.keys(rows[observer].peers)) {
      if (kind(matrix, observer, subject) === "fine") continue;
      faulty += 1;
      from.set(observer, (from.get(observer) ?? 0) + 1);
      to.set(subject, (to.get(subject) ?? 0) + 1);
    }
  }
  if (nodes.length <= WHOLE) return { from: nodes, to: nodes, silent, faulty, left: 0, whole: true };
  const worst = (map) => {
    const chosen = new Set([...map].sort((a, b) => b[1] - a[1]).slice(0, FAULTS).map(([id]) => id));
    return nodes.filter((id) => chosen.has(id));
  };
  const left = Math.max(from.size - FAULTS, 0) + Math.max(to.size - FAULTS, 0);
  return { from: worst(from), to: worst(to), silent, faulty, left, whole: false };
}

// Events

/** bad, warn, calm or good. */
export function eventTone({ type, to, verdict }) {
  const good = { status: "healthy", verdict: "up", quorum: "true", mass_loss: "false", self: "ok" };
  if (to === good[type]) return "good";
  if (NO_ALARM.includes(verdict) || NO_ALARM.includes(to)) return "calm";
  if (type === "status") return to === "down" ? "bad" : "warn";
  if (type === "verdict") return ["down", "refused", "link_down", "one_way", "conflict"].includes(to) ? "bad" : "warn";
  if (type === "quorum" || type === "mass_loss") return "bad";
  if (type === "service") return { passing: "good", failed: "bad" }[to] ?? "calm";
  if (type === "migrate") return "warn";
  return type === "self" || type === "address" ? "warn" : "calm";
}

const FLAGS = { quorum: ["quorum lost", "quorum available"], mass_loss: ["mass loss over", "mass loss"] };

export function eventWords({ type, from, to, service }) {
  if (type === "migrate") return `clients of ${service} leave ${from}${to === null ? "" : ` for ${to}`}`;
  if (type === "service") return `${service}: ${from ?? "new"} → ${to ?? "withdrawn"}`;
  if (own(FLAGS, type)) return FLAGS[type][Number(to === "true")];
  if (from !== null && to !== null) return `${from} → ${to}`;
  return to === null ? type : `${type}: ${to}`;
}

export function gapWords(lost) {
  if (lost === null) return "events were lost";
  return lost === 1 ? "1 event was lost" : `${lost} events were lost`;
}

// Services

/** One service in a line: its name, how many of its instances pass, and whether that is enough. */
export function serviceLine({ name, passing, draining, failed, unreachable }) {
  const all = passing + draining + failed + unreachable;
  return { name, text: `${passing}/${all}`, tone: passing === 0 ? "bad" : passing < all ? "warn" : "good" };
}

// The node itself

const SELF = {
  stalled: "was not given time to run; what it says of others may be late",
  flooded: "gets more datagrams than it can read; what it says of others may be wrong",
  isolated: "is isolated: it, and not the others, is cut off",
};

/** The strip: whose view this is, and whether it can be believed. `silent`: seconds without an answer. */
export function strip({ status, silent, failure }) {
  const id = status?.server_id ?? "the node";
  if (failure) {
    const what = failure === "stuck" ? "is stuck, its detector does not turn," : "does not answer";
    const seen = status ? `; what you see is from ${clock(status.generated_at)}` : "";
    return { tone: "bad", text: `${id} ${what} since ${age(silent)}${seen}` };
  }
  if (!status) return { tone: "calm", text: "waiting for the first answer" };
  const trouble = own(SELF, status.self_health);
  if (trouble) return { tone: "warn", text: `${id} ${trouble} (${status.self_health})` };
  return { tone: "good", text: `live: what ${id} sees, at ${clock(status.generated_at)}` };
}

/** What a screen reader is told between two answers. */
export function news(before, now) {
  const told = [];
  if (before.status.is_quorum_available !== now.status.is_quorum_available) {
    told.push(now.status.is_quorum_available ? "Quorum is available again." : "Quorum is lost.");
  }
  const was = new Map(before.peers.map((peer) => [peer.server_id, peer.status]));
  const down = now.peers.filter((p) => p.status === "down" && was.get(p.server_id) !== "down");
  if (down.length > 3) told.push(`${down.length} peers are down.`);
  else told.push(...down.map((peer) => `${peer.server_id} is ${word(peer)}: ${peer.why}.`));
  return told;
}
