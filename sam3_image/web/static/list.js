// The list of instances, and what is done with those that are selected in it.

import { rove } from "./roving.js";

const find = (selector) => document.querySelector(selector);
const list = find("#instances");
const rows = new Map(); // id of an instance → its row

// Called back with ids: hover(id or null), select(id, {isAdding, isRange}), toggle(id).
export function watchList({ hover, select, toggle }) {
  const idOf = (target) => Number(target.closest("li")?.dataset.id) || null;
  list.addEventListener("pointerover", ({ target }) => hover(idOf(target)));
  list.addEventListener("pointerleave", () => hover(null));
  list.addEventListener("focusin", ({ target }) => hover(idOf(target)));
  list.addEventListener("focusout", () => hover(null));
  list.addEventListener("click", (event) => {
    const id = idOf(event.target);
    if (id === null) return;
    if (event.target.closest("[data-test=discard-one]")) toggle(id);
    else select(id, { isAdding: event.ctrlKey || event.metaKey, isRange: event.shiftKey });
  });
  rove(list, "[data-test=instance]");
}

// instances: as the stage has them, with isDiscarded.
export function showList(instances) {
  const wanted = instances.map((instance) => {
    const row = rows.get(instance.id) ?? newRow(instance.id);
    fill(row, instance);
    return row;
  });
  const ids = new Set(instances.map(({ id }) => id));
  for (const [id, row] of rows) {
    if (ids.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  // Rows that stay where they are keep the focus.
  wanted.forEach((row, index) => {
    if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
  });
  rove(list, "[data-test=instance]", false);
}

function newRow(id) {
  const row = document.createElement("li");
  row.dataset.id = id;
  const button = row.appendChild(document.createElement("button"));
  button.type = "button";
  button.dataset.test = "instance";
  for (const part of ["number", "name", "score"]) {
    button.appendChild(document.createElement("span")).className = part;
  }
  const toggle = row.appendChild(document.createElement("button"));
  toggle.type = "button";
  toggle.tabIndex = -1; // Delete does the same from the row
  toggle.dataset.test = "discard-one";
  rows.set(id, row);
  return row;
}

function fill(row, { number, concept, score, area, color, isSelected, isDiscarded }) {
  const [button, toggle] = row.children;
  const [badge, name, value] = button.children;
  set(badge, String(number));
  badge.style.borderColor = `rgb(${color})`;
  set(name, concept);
  set(value, score.toFixed(2));
  button.dataset.score = score;
  button.title = `${area.toLocaleString("en")} pixels, score ${score.toFixed(4)}`;
  button.setAttribute("aria-pressed", String(isSelected));
  row.classList.toggle("discarded", isDiscarded);
  set(toggle, isDiscarded ? "+" : "×");
  toggle.setAttribute("aria-label", `${isDiscarded ? "Take back" : "Discard"} number ${number}`);
  toggle.title = isDiscarded ? "Take it back" : "Discard it";
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function lightRow(id) {
  for (const [key, row] of rows) row.firstChild.classList.toggle("lit", key === id);
}

// Scrolls the list alone: the page must not move under a pointer that is over the image.
export function revealRow(id) {
  const row = rows.get(id);
  if (!row) return;
  const lowest = row.offsetTop + row.offsetHeight - list.clientHeight;
  list.scrollTop = Math.min(row.offsetTop, Math.max(lowest, list.scrollTop));
}

// What can be done with the selection: of the same names, of known names.
export function showSelection({ count, isDiscarded, name, names, isAny }) {
  find("#selection").hidden = !isAny;
  for (const id of ["discard", "only", "name", "rename"]) find(`#${id}`).disabled = count === 0;
  find("#discard").textContent = isDiscarded ? "Take back" : "Discard";
  find("#only").textContent = count > 1 ? `Only these ${count}` : "Only this";
  if (document.activeElement !== find("#name")) find("#name").value = name;
  find("#names").replaceChildren(...names.map((value) => {
    const option = document.createElement("option");
    option.value = value;
    return option;
  }));
}
