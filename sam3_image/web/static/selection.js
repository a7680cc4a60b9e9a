// Instances are selected, discarded, taken back and renamed.

import { app, commit, instances, present } from "./app.js";
import * as labels from "./labels.js";
import { revealRow, watchList } from "./list.js";
import { hover, light, render } from "./page.js";

const find = (selector) => document.querySelector(selector);
const on = (selector, kind, work) => find(selector).addEventListener(kind, work);

export function select(ids) {
  app.selected = new Set(ids);
  light();
}

export function choose(id, { isAdding, isRange }) {
  const all = instances().map((one) => one.id);
  const [last] = [...app.selected].slice(-1);
  if (isRange && last !== undefined) {
    const [from, to] = [all.indexOf(last), all.indexOf(id)].sort((one, other) => one - other);
    select([...all.slice(from, to + 1).filter((one) => one !== last), last]);
  } else if (isAdding) {
    const others = [...app.selected].filter((one) => one !== id);
    select(app.selected.has(id) ? others : [...others, id]);
  } else {
    select(app.selected.size === 1 && app.selected.has(id) ? [] : [id]);
  }
}

// Selects the neighbor of what is selected, and moves the focus along in the list.
export function selectNext(by) {
  const all = instances().map((one) => one.id);
  if (all.length === 0) return;
  const [last] = [...app.selected].slice(-1);
  const at = last === undefined ? (by > 0 ? -1 : all.length) : all.indexOf(last);
  const id = all[Math.min(all.length - 1, Math.max(0, at + by))];
  select([id]);
  revealRow(id);
  find(`#instances li[data-id="${id}"] button`).focus({ preventScroll: true });
}

function setDiscarded(ids) {
  const state = present();
  const isGone = [...ids].some((id) => !state.discarded.includes(id));
  commit(labels.discard(state, ids, isGone));
  render();
}

export function discardSelected() {
  const { activeElement } = document;
  const row = activeElement?.closest("#instances li");
  const ids = app.selected.size || !row ? app.selected : new Set([Number(row.dataset.id)]);
  if (ids.size) setDiscarded(ids);
}

export function keepOnly() {
  if (app.selected.size === 0) return;
  const others = instances().map(({ id }) => id).filter((id) => !app.selected.has(id));
  const state = labels.discard(present(), app.selected, false);
  commit(labels.discard(state, new Set(others), true));
  render();
}

function rename() {
  const name = find("#name").value.trim();
  if (!name || app.selected.size === 0) return;
  commit(labels.rename(present(), app.selected, name));
  find("#name").blur();
  render();
}

export function watchInstances() {
  watchList({ hover, select: choose, toggle: (id) => setDiscarded(new Set([id])) });
  on("#discard", "click", discardSelected);
  on("#only", "click", keepOnly);
  on("#rename", "click", rename);
  on("#name", "keydown", (event) => {
    if (event.key === "Enter") rename();
    else if (event.key === "Escape") find("#name").blur();
    else return;
    event.stopPropagation();
  });
}
