// What changed, newest first. As in the table, places are filled anew.

import { $, el, mark, put, resize } from "./dom.js";
import { age, eventTone, eventWords, gapWords } from "./model.js";

/** As many as the node keeps. */
const KEPT = 256;
const SHOWN = 60;

let events = [];
let select = () => {};

export function addEvent(event) {
  events = [event, ...events].slice(0, KEPT);
}

/** What was seen before a gap stays; of another run's list only what is new comes again. */
export function addGap(lost) {
  if (events.length) addEvent({ gap: gapWords(lost) });
}

function make() {
  const who = el("button", { type: "button", class: "name" });
  const item = el("li", {},
    el("p", {}, el("span", { class: "dot" }), who, el("span", { class: "change" }), el("time", { class: "quiet" })),
    el("p", { class: "why quiet" }));
  who.addEventListener("click", () => select(who.textContent));
  return item;
}

function fill(item, event, now) {
  const [head, why] = item.children;
  const [, who, change, time] = head.children;
  mark(item, "class", event.gap ? "gap" : eventTone(event));
  who.hidden = Boolean(event.gap);
  put(who, event.gap ? "" : event.peer ?? event.observer);
  put(change, event.gap ?? eventWords(event));
  put(why, event.gap ? "older ones may be missing" : event.why);
  put(time, event.gap ? "" : age((now - Date.parse(event.time)) / 1000));
  mark(time, "datetime", event.gap ? null : event.time);
  mark(time, "title", event.gap ? null : event.time);
}

/** `now`: the node's own time in ms; the browser's clock may be another one. */
export function showTimeline(now) {
  const shown = events.slice(0, SHOWN);
  const items = resize($("timeline"), shown.length, make);
  shown.forEach((event, at) => fill(items[at], event, now));
  const more = events.length - shown.length;
  put($("timeline-count"), events.length ? `newest first, time since${more ? `, ${more} older not shown` : ""}` : "none yet");
}

/** `choose(id)` is called for the node that is chosen. */
export function startTimeline(choose) {
  select = choose;
}
