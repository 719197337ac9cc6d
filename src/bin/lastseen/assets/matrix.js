// The reachability matrix: a grid for the eye, the pointer, the arrow keys and the screen reader.

import { $, el, mark, put, resize } from "./dom.js";
import { FAULTS, KINDS, kind, rowAge, selection, sentence } from "./model.js";

const REST = "Point at a cell, or walk by the arrow keys, for what it says. Rows tell, columns are told of.";
const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

const view = { matrix: null, from: [], to: [], at: [0, 0], over: null };
let body = null;

const cellAt = (row, column) => body.children[row]?.children[column + 1];
const place = (cell) => [cell.parentElement.sectionRowIndex, cell.cellIndex - 1];

function size(columns) {
  return columns <= 16 ? "large" : columns <= 32 ? "medium" : "small";
}

/** A grid for these nodes; the cells are filled later, and again and again. */
function build(from, to) {
  const header = el("tr", { role: "row" }, el("th", { role: "columnheader", scope: "col", class: "corner" }, "from \\ to"));
  for (const id of to) header.append(el("th", { role: "columnheader", scope: "col" }, el("span", {}, id)));
  header.append(el("th", { role: "columnheader", scope: "col", class: "age" }, "row age"));
  body = el("tbody", { role: "rowgroup" });
  for (const id of from) {
    const row = el("tr", { role: "row" }, el("th", { role: "rowheader", scope: "row" }, id));
    to.forEach(() => row.append(el("td", { role: "gridcell", tabindex: "-1" })));
    row.append(el("td", { role: "gridcell", class: "age" }));
    body.append(row);
  }
  const grid = el("table", { role: "grid", class: `matrix ${size(to.length)}`, "aria-label": "Who hears whom" },
    el("thead", { role: "rowgroup" }, header), body);
  $("matrix-scroll").replaceChildren(grid);
  view.at = [Math.min(view.at[0], from.length - 1), Math.min(view.at[1], to.length - 1)];
  [view.from, view.to, view.over] = [from, to, null];
  cellAt(...view.at)?.setAttribute("tabindex", "0");
}

const same = (a, b) => a.length === b.length && a.every((id, at) => id === b[at]);

function fill() {
  view.from.forEach((from, row) => {
    view.to.forEach((to, column) => {
      const cell = cellAt(row, column);
      const is = kind(view.matrix, from, to);
      if (cell.dataset.kind === is) return;
      cell.dataset.kind = is;
      put(cell, KINDS[is].sign);
      mark(cell, "class", KINDS[is].tone ?? "good");
    });
    put(body.children[row].lastElementChild, rowAge(view.matrix.rows[from]));
  });
}

/** The sentence of the cell that is pointed at or has the focus. */
function say() {
  const cell = view.over ?? (body?.contains(document.activeElement) ? document.activeElement : null);
  for (const lit of $("matrix-scroll").querySelectorAll(".lit")) lit.classList.remove("lit");
  mark($("sentence"), "class", cell ? "sentence said" : "sentence quiet");
  if (!cell) return put($("sentence"), REST);
  const [row, column] = place(cell);
  const text = sentence(view.matrix, view.from[row], view.to[column]);
  put($("sentence"), text);
  mark(cell, "aria-label", text);
  cell.parentElement.firstElementChild.classList.add("lit");
  $("matrix-scroll").querySelector(`thead th:nth-child(${column + 2})`).classList.add("lit");
}

function walk(event) {
  const cell = event.target.closest("td:not(.age)");
  if (!cell) return;
  let [row, column] = place(cell);
  if (event.key === "Enter") return view.select(view.to[column]);
  if (event.key in MOVES) [row, column] = [row + MOVES[event.key][0], column + MOVES[event.key][1]];
  else if (event.key === "Home") [row, column] = [event.ctrlKey ? 0 : row, 0];
  else if (event.key === "End") [row, column] = [event.ctrlKey ? view.from.length - 1 : row, view.to.length - 1];
  else return;
  event.preventDefault();
  if (column >= 0 && column < view.to.length) cellAt(row, column)?.focus();
}

function focus({ target: cell }) {
  if (!cell.matches("td:not(.age)")) return;
  cellAt(...view.at)?.setAttribute("tabindex", "-1");
  view.at = place(cell);
  cell.setAttribute("tabindex", "0");
  view.over = null;
  say();
}

function list(names, most) {
  const more = names.length - most;
  return `${names.slice(0, most).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

/** What the grid does not show. */
function rest({ from, silent, left, whole }, { nodes, rows, edges }) {
  const parts = [];
  if (!whole) parts.push(`${nodes.length - from.length - silent.length} rows tell nothing bad and are not shown`);
  if (left) parts.push(`of those with faults ${left} more rows and columns are not shown (at most ${FAULTS} of each)`);
  if (silent.length) parts.push(`no fresh row: ${list(silent.map((id) => `${id} (${rowAge(rows[id])})`), 8)}`);
  if (!edges) parts.push("an empty cell is fine or not observed");
  return parts.join("; ");
}

export function showMatrix(matrix) {
  view.matrix = matrix;
  const chosen = selection(matrix);
  const held = body?.contains(document.activeElement);
  if (!body || !same(view.from, chosen.from) || !same(view.to, chosen.to)) {
    build(chosen.from, chosen.to);
    if (held) cellAt(...view.at)?.focus();
  }
  fill();
  say();
  const { length: nodes } = matrix.nodes;
  put($("matrix-count"), `${nodes} nodes, ${nodes - chosen.silent.length} fresh rows, ${chosen.faulty || "no"} faults`);
  put($("matrix-rest"), rest(chosen, matrix));
}

/** `select(id)` is called for the column of a cell that is chosen. */
export function startMatrix(select) {
  view.select = select;
  const [grid, legend] = [$("matrix-scroll"), Object.values(KINDS).filter((is) => is.legend)];
  grid.addEventListener("keydown", walk);
  grid.addEventListener("focusin", focus);
  grid.addEventListener("focusout", () => setTimeout(say));
  grid.addEventListener("mouseover", ({ target }) => {
    view.over = target.closest("tbody td:not(.age)");
    if (body) say();
  });
  grid.addEventListener("mouseleave", () => {
    view.over = null;
    if (body) say();
  });
  grid.addEventListener("click", ({ target }) => {
    const cell = target.closest("tbody td:not(.age)");
    if (cell) view.select(view.to[place(cell)[1]]);
  });
  const items = resize($("legend"), legend.length, () => el("li", {}, el("b"), el("span")));
  legend.forEach((is, at) => {
    put(items[at].firstChild, is.sign);
    mark(items[at].firstChild, "class", is.tone ?? "good");
    put(items[at].lastChild, is.legend);
  });
}
