// What a person does on the canvas and with the tools below it; undo; the threshold.

import { app, isAnswered, keepPage, present } from "./app.js";
import { mark } from "./asking.js";
import { ask, showBest, stop } from "./requests.js";
import { watchKeys, watchPointer } from "./gestures.js";
import { revealRow } from "./list.js";
import { hover, light, render, show, showZoom, stage } from "./page.js";
import { choose, select } from "./selection.js";
import * as session from "./session.js";

const find = (selector) => document.querySelector(selector);
const on = (selector, kind, work) => find(selector).addEventListener(kind, work);
const canvas = find("#canvas");
const { question } = app;

const gestures = {
  drawsBoxes: () => question.mode === "example" || question.mode === "object",
  click(position, { isOff, isAdding }) {
    const isNothing = !isAnswered(present()) && question.concepts().length === 0;
    if (question.mode === "words" && isNothing) question.mode = "object"; // what a first click means
    if (question.mode === "object") {
      mark({ point: position, label: isOff || app.isOff ? 0 : 1 });
      return;
    }
    const id = stage.instanceAt(position);
    if (id === null) select([]);
    else choose(id, { isAdding, isRange: false });
    if (id !== null) revealRow(id);
  },
  box(box, isOff) {
    mark({ box, label: question.task === "visual" ? 1 : isOff || app.isOff ? 0 : 1 });
  },
  hover(position) {
    const id = position && stage.instanceAt(position);
    if (id === app.hovered) return;
    hover(id);
    if (id !== null) revealRow(id);
  },
  moved: showZoom,
};

export function zoomed(change) {
  if (!app.current?.bitmaps) return;
  change(stage.view);
  stage.draw();
  showZoom();
}

export async function travel(direction) {
  if (!app.current) return;
  stop();
  if (!app.current.history[direction]()) return;
  session.keepState(app.current.key, present());
  await show();
}

export function toggleHidden() {
  const isHidden = !stage.hidesMasks;
  stage.hidesMasks = isHidden;
  find("#hide").setAttribute("aria-pressed", String(isHidden));
  stage.draw();
}

export function watchImage() {
  watchPointer(canvas, stage, gestures);
  watchKeys(canvas, stage, gestures);
  on("#undo", "click", () => travel("undo"));
  on("#redo", "click", () => travel("redo"));
  on("#zoom-in", "click", () => zoomed((view) => view.zoom(1.5)));
  on("#zoom-out", "click", () => zoomed((view) => view.zoom(1 / 1.5)));
  on("#fit", "click", () => zoomed((view) => view.fit()));
  on("#actual", "click", () => zoomed((view) => view.actual()));
  on("#hide", "click", toggleHidden);
  on("#opacity", "input", ({ target }) => {
    app.opacity = stage.opacity = target.valueAsNumber;
    stage.draw();
  });
  on("#opacity", "change", keepPage);
  on("#coloring", "change", ({ target }) => {
    app.coloring = target.value;
    keepPage();
    light();
  });
}

function setThreshold(value) {
  app.threshold = value;
  render();
}

function thresholdSet() {
  keepPage();
  const { found } = present();
  if (found?.task === "concept" && app.threshold < found.floor) ask("concept");
}

export function moveThreshold(step) {
  if (find("#threshold-row").hidden) return;
  setThreshold(Math.min(1, Math.max(0, Math.round((app.threshold + step) * 100) / 100)));
  thresholdSet();
}

export function watchThreshold() {
  on("#threshold", "input", ({ target }) => setThreshold(target.valueAsNumber));
  on("#threshold", "change", thresholdSet);
  on("#show-best", "click", showBest);
}
