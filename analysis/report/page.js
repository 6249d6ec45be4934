"use strict";
// What a report gains from a script: tables sorted by their headings, and definitions on hover, focus and tap.
// Without it every definition is a title, and all of them stand at the end of the page.

// ---- Tables: <table class="sortable">; a cell's data-sort is what it is sorted by, else the number that it shows.

const sortKey = (cell) => {
  const text = (cell?.dataset.sort ?? cell?.textContent ?? "").trim();
  if (text === "" || text === "-" || text === "–") return null; // undefined
  const bare = text.replace(/^~/, "").replace(/,/g, "").replace(/%$/, "").trim();
  if (/^[-+]?inf$/.test(bare)) return bare.startsWith("-") ? -Infinity : Infinity;
  return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(bare) ? Number(bare) : text;
};

const order = (left, right) => {
  if (typeof left === "number" && typeof right === "number") return left === right ? 0 : left < right ? -1 : 1;
  if (typeof left === typeof right) return String(left).localeCompare(String(right), "en", { numeric: true });
  return typeof left === "number" ? -1 : 1;
};

const isFixed = (row) => row.matches(".total") || row.querySelector("th") !== null; // sums and groups' headings stay
const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

const sortBody = (body, column, direction) => {
  const rows = [...body.rows].filter((row) => !isFixed(row));
  const keys = new Map(rows.map((row) => [row, sortKey(row.cells[column])]));
  const turned = direction === "descending" ? -1 : 1;
  rows.sort((one, other) => {
    if (direction === "none") return one.dataset.place - other.dataset.place;
    const [left, right] = [keys.get(one), keys.get(other)];
    if (left === null || right === null) return (left === null) - (right === null); // undefined comes last either way
    return turned * order(left, right);
  });
  const last = [...body.rows].find((row) => row.matches(".total")) ?? null;
  for (const row of rows) body.insertBefore(row, last);
};

const makeSortable = (table) => {
  const headings = [...(table.tHead?.rows[0]?.cells ?? [])];
  for (const body of table.tBodies) [...body.rows].forEach((row, place) => (row.dataset.place = place));
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const direction = NEXT[heading.getAttribute("aria-sort")];
      for (const other of headings) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", direction);
      for (const body of table.tBodies) sortBody(body, column, direction);
    });
  });
};

// ---- Definitions: one box for all of them, beside what it explains.

const tip = document.createElement("div");
tip.id = "tip";
tip.setAttribute("role", "tooltip");
tip.hidden = true;
let explained = null;

const hideTip = () => {
  tip.hidden = true;
  explained?.removeAttribute("aria-describedby");
  explained = null;
};

const showTip = (element) => {
  if (explained === element) return;
  hideTip();
  explained = element;
  tip.textContent = element.dataset.tip;
  element.setAttribute("aria-describedby", "tip");
  tip.style.left = tip.style.top = "0";
  tip.hidden = false;
  const at = element.getBoundingClientRect();
  const box = tip.getBoundingClientRect();
  const below = at.bottom + 6;
  const fits = below + box.height < innerHeight || at.top < box.height + 6;
  tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - box.width - 8))}px`;
  tip.style.top = `${fits ? below : at.top - box.height - 6}px`;
};

const explains = (target) => (target instanceof Element ? target.closest("[data-tip]") : null);

const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

const moveFocus = (event) => {
  const step = ARROWS[event.key];
  const cell = step && event.target.closest?.("th, td");
  if (!cell) return;
  const next = cell.closest("table").rows[cell.parentNode.rowIndex + step[0]]?.cells[cell.cellIndex + step[1]];
  if (!next) return;
  event.preventDefault();
  const focused = next.querySelector("button") ?? next;
  if (focused === next && !next.hasAttribute("tabindex")) next.tabIndex = -1;
  focused.focus();
};

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
document.body.append(tip);
for (const element of document.querySelectorAll("[title]")) {
  element.dataset.tip = element.title;
  element.removeAttribute("title"); // or a browser would show it as well
  // Tab stops at definitions; arrow keys lead on to the cells, of which there are too many to stop at.
  if (!element.querySelector("button, a")) element.tabIndex = element.matches("th, td:first-child, :not(td)") ? 0 : -1;
}
document.addEventListener("pointerover", (event) => {
  const element = explains(event.target);
  if (element) showTip(element);
  else if (event.pointerType === "mouse" && !explains(document.activeElement)) hideTip();
});
document.addEventListener("pointerdown", (event) => {
  if (!explains(event.target)) hideTip();
});
document.addEventListener("focusin", (event) => {
  const element = explains(event.target);
  if (element) showTip(element);
  else hideTip();
});
document.addEventListener("focusout", hideTip);
document.addEventListener("scroll", hideTip, { capture: true, passive: true });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
  else moveFocus(event);
});
