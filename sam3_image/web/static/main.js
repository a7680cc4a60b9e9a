// The page: wires what a person does to what the page knows.

import * as api from "./api.js";
import { answerOf, app, commit, conceptsOf, instances, isAnswered, keepPage, present } from "./app.js";
import { ask, askAll, cancelAll, showBest, stop } from "./asking.js";
import * as gallery from "./gallery.js";
import { watchKeys, watchPointer } from "./gestures.js";
import { watchIntake } from "./intake.js";
import { openKeys, watchShortcuts } from "./keys.js";
import * as labels from "./labels.js";
import { revealRow, watchList } from "./list.js";
import { watchMenus } from "./menus.js";
import { fail, hover, light, render, show, showZoom, stage } from "./page.js";
import { examplesIn, withMark } from "./question.js";
import { hideCopied, offerFormats, watchSaving } from "./saving.js";
import * as session from "./session.js";
import { watchStrip } from "./strip.js";
import { askForToken } from "./token.js";

const find = (selector) => document.querySelector(selector);
const on = (selector, kind, work) => find(selector).addEventListener(kind, work);
const canvas = find("#canvas");
const words = find("#concepts");
const { question } = app;

// ---- questions

function setMode(mode) {
  if (find(`[name=mode][value=${mode}]`).closest("label").hidden) return;
  question.mode = mode;
  keepPage();
  render();
}

function mark(made) {
  const state = present();
  const { task } = question;
  commit({ ...state, ...correctable(state), marks: withMark(state.marks, task, made) });
  ask();
}

// In Object mode, clicks correct the one instance that is selected, where the server can.
function correctable(state) {
  const isFresh = question.task === "visual" && state.marks.visual.length === 0;
  if (!app.about.mask_prompts || !isFresh || app.selected.size !== 1) return {};
  const [id] = app.selected;
  const chosen = instances().find((one) => one.id === id);
  return chosen ? { correcting: id, base: chosen.rle } : {};
}

// Enter in the words asks for the words; the button for what the mode says, where it can.
function askWords() {
  question.words = words.value;
  if (question.task !== "concept" && question.concepts().length) question.mode = "words";
  run();
}

function run() {
  question.words = words.value;
  if (question.mode === "object" && question.concepts().length) question.mode = "words";
  if (!app.current) return;
  commit({ ...present() });
  keepPage();
  hideCopied();
  ask();
}

function askAgain() {
  keepPage();
  if (!app.current) return;
  commit({ ...present() });
  const { picked } = present();
  ask(picked && question.task === "visual" ? "visual" : undefined);
}

function clearMarks() {
  if (!app.current) return;
  const state = present();
  const isObject = question.task === "visual";
  const marks = isObject ? { ...state.marks, visual: [] } : { ...state.marks, concept: [] };
  commit({ ...state, marks, correcting: null, base: null });
  ask();
}

function escape() {
  const { marks, picked } = present();
  if (app.selected.size) select([]);
  else if (marks.concept.length || marks.visual.length || picked) clearMarks();
}

// What is shown stays; the next question adds to it.
function hold() {
  if (find("#hold").disabled) return;
  const state = present();
  if (question.task === "visual") {
    const gone = new Set(state.discarded);
    const held = [...state.held, ...(state.picked?.instances ?? []).filter(({ id }) => !gone.has(id))];
    const marks = { ...state.marks, visual: [] };
    commit({ ...state, held, marks, picked: null, correcting: null, base: null });
  } else {
    commit(labels.hold(state, app.threshold));
  }
  stop();
  select([]);
  render();
}

function toggleOff() {
  app.isOff = !app.isOff;
  render();
}

function watchQuestion() {
  for (const choice of document.querySelectorAll("[name=mode]")) {
    choice.addEventListener("change", () => setMode(choice.value));
  }
  on("#run", "click", run);
  on("#off", "click", toggleOff);
  on("#clear", "click", clearMarks);
  on("#hold", "click", hold);
  words.addEventListener("input", () => (question.words = words.value));
  words.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.ctrlKey || event.isComposing) return;
    event.preventDefault();
    askWords();
  });
  on("#candidates", "change", ({ target }) => {
    question.candidates = target.checked;
    if (question.task === "visual") askAgain();
  });
  on("#tile-size", "change", ({ target }) => {
    question.tileSize = target.value === "" ? null : target.valueAsNumber;
    askAgain();
  });
  on("#refine", "click", () => {
    question.refine = !question.refine;
    askAgain();
  });
  on("#reference-keep", "click", () => {
    const { id, name, file } = app.current;
    const boxes = examplesIn(present().marks).map(({ box }) => box);
    question.reference = { image: { id, name, file }, boxes };
    render();
  });
  on("#reference-forget", "click", () => {
    question.reference = null;
    askAgain();
  });
}

// ---- instances

function select(ids) {
  app.selected = new Set(ids);
  light();
}

function choose(id, { isAdding, isRange }) {
  const all = instances().map((one) => one.id);
  const [last] = [...app.selected].slice(-1);
  if (isRange && last !== undefined) {
    const [from, to] = [all.indexOf(last), all.indexOf(id)].sort((one, other) => one - other);
    select([...all.slice(from, to + 1).filter((one) => one !== last), last]);
  } else if (isAdding) {
    select(app.selected.has(id) ? [...app.selected].filter((one) => one !== id) : [...app.selected, id]);
  } else {
    select(app.selected.size === 1 && app.selected.has(id) ? [] : [id]);
  }
}

// Selects the neighbor of what is selected, and moves the focus along in the list.
function selectNext(by) {
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

function discardSelected() {
  const { activeElement } = document;
  const row = activeElement?.closest("#instances li");
  const ids = app.selected.size || !row ? app.selected : new Set([Number(row.dataset.id)]);
  if (ids.size) setDiscarded(ids);
}

function keepOnly() {
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

function watchInstances() {
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

// ---- image

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

function zoomed(change) {
  if (!app.current?.bitmaps) return;
  change(stage.view);
  stage.draw();
  showZoom();
}

async function travel(direction) {
  if (!app.current) return;
  stop();
  if (!app.current.history[direction]()) return;
  session.keepState(app.current.key, present());
  await show();
}

function setHidden(isHidden) {
  stage.hidesMasks = isHidden;
  find("#hide").setAttribute("aria-pressed", String(isHidden));
  stage.draw();
}

function watchImage() {
  watchPointer(canvas, stage, gestures);
  watchKeys(canvas, stage, gestures);
  on("#undo", "click", () => travel("undo"));
  on("#redo", "click", () => travel("redo"));
  on("#zoom-in", "click", () => zoomed((view) => view.zoom(1.5)));
  on("#zoom-out", "click", () => zoomed((view) => view.zoom(1 / 1.5)));
  on("#fit", "click", () => zoomed((view) => view.fit()));
  on("#actual", "click", () => zoomed((view) => view.actual()));
  on("#hide", "click", () => setHidden(!stage.hidesMasks));
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

// ---- threshold

function setThreshold(value) {
  app.threshold = value;
  render();
}

function thresholdSet() {
  keepPage();
  const { found } = present();
  if (found?.task === "concept" && app.threshold < found.floor) ask("concept");
}

function moveThreshold(step) {
  if (find("#threshold-row").hidden) return;
  setThreshold(Math.min(1, Math.max(0, Math.round((app.threshold + step) * 100) / 100)));
  thresholdSet();
}

function watchThreshold() {
  on("#threshold", "input", ({ target }) => setThreshold(target.valueAsNumber));
  on("#threshold", "change", thresholdSet);
  on("#show-best", "click", showBest);
}

// ---- saving

function current() {
  if (!app.current || !isAnswered(present())) return null;
  const kept = labels.kept(present(), app.threshold);
  return { image: app.current, instances: kept, concepts: conceptsOf([present()]) };
}

function all() {
  const answered = app.images.filter(({ history }) => isAnswered(history.present));
  return {
    parts: answered.map((image) => {
      return { image, instances: labels.kept(image.history.present, app.threshold) };
    }),
    concepts: conceptsOf(answered.map(({ history }) => history.present)),
    left: app.images.length - answered.length,
  };
}

// What gives the answer that is shown, at the threshold that is set.
function asked() {
  const answer = answerOf(present());
  if (!answer) return null;
  const cut = answer.task === "concept" ? { threshold: app.threshold } : {};
  return {
    name: app.current.name,
    reference: answer.reference,
    inputs: { ...answer.inputs, ...cut },
  };
}

// ---- all of it

function watchSession() {
  watchIntake({
    take: gallery.add,
    refuse: (title, sentence) => fail(api.refusal(title, sentence)),
  });
  on("#example", "click", async () => {
    try {
      gallery.add([{ file: await api.example(), name: "shapes.png" }]);
    } catch (error) {
      fail(error);
    }
  });
  watchStrip({ open: gallery.openKey });
  on("#previous", "click", () => gallery.step(-1));
  on("#next", "click", () => gallery.step(1));
  on("#all-run", "click", askAll);
  on("#all-cancel", "click", cancelAll);
  on("#remove", "click", gallery.remove);
  on("#clear-session", "click", () => find("#clear-dialog").showModal());
  on("#clear-dialog", "close", ({ target }) => {
    if (target.returnValue === "clear") gallery.clear();
    target.returnValue = "";
  });
}

function watch() {
  watchQuestion();
  watchInstances();
  watchImage();
  watchThreshold();
  watchSession();
  watchMenus(); // before the keys, which leave what it handled
  const { save, saveAll } = watchSaving({
    current, all, question: asked, fail, opacity: () => app.opacity, isDemo: () => app.about.demo,
  });
  watchShortcuts({
    1: () => setMode("words"),
    2: () => setMode("example"),
    3: () => setMode("object"),
    4: () => setMode("everything"),
    x: toggleOff,
    n: hold,
    "[": () => moveThreshold(-0.05),
    "]": () => moveThreshold(0.05),
    j: () => selectNext(1),
    k: () => selectNext(-1),
    d: discardSelected,
    Delete: discardSelected,
    o: keepOnly,
    r: () => app.selected.size && find("#name").select(),
    ",": () => gallery.step(-1),
    ".": () => gallery.step(1),
    PageUp: () => gallery.step(-1),
    PageDown: () => gallery.step(1),
    "+": () => zoomed((view) => view.zoom(1.5)),
    "-": () => zoomed((view) => view.zoom(1 / 1.5)),
    f: () => zoomed((view) => view.fit()),
    z: () => zoomed((view) => view.actual()),
    h: () => setHidden(!stage.hidesMasks),
    "?": openKeys,
    Escape: escape,
  }, {
    z: () => travel("undo"),
    y: () => travel("redo"),
    "Shift+z": () => travel("redo"),
    a: () => select(instances().map(({ id }) => id)),
    s: () => save("masks"),
    "Shift+s": saveAll,
    Enter: askAll,
  }, ["z", "y", "Shift+z", "a"]);
}

function showAbout() {
  const badge = find("#model");
  const { demo, name, tasks = [] } = app.about;
  badge.hidden = false;
  badge.classList.toggle("plain", !demo);
  badge.textContent = demo
    ? "Demo checkpoint: it knows drawn shapes such as “red circle” or “striped star”, nothing else"
    : name;
  find("#mode-everything").hidden = !tasks.includes("everything");
  offerFormats(app.about);
}

function showPage({ words: typed, mode, tileSize, refine, threshold, opacity, coloring }) {
  const isOffered = mode !== "everything" || app.about.tasks.includes("everything");
  Object.assign(question, { words: typed, mode: isOffered ? mode : "words", tileSize, refine });
  Object.assign(app, { threshold, opacity, coloring });
  stage.opacity = opacity;
  words.value = typed;
  find("#tile-size").value = tileSize ?? "";
  find("#opacity").value = opacity;
  find("#coloring").value = coloring;
}

async function begin() {
  api.prepare({
    files: (wanted) => [...app.images, question.reference?.image].find(({ id }) => id === wanted).file,
    ask: (error) => {
      fail(error);
      return askForToken();
    },
  });
  watch();
  render();
  try {
    app.about = { ...app.about, ...(await api.about()) };
    fail(null);
  } catch (error) {
    fail(error);
    return;
  }
  showAbout();
  const last = await session.restore((sentence) => (find("#session-note").textContent = sentence));
  if (last?.page) showPage(last.page);
  if (last?.images.length) await gallery.restore(last.images, last.page);
  render();
}

begin();
