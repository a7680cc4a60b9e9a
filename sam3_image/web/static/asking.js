// What a person does to ask: modes, marks, words, and what stays when the next question comes.

import { app, commit, instances, isAnswered, keepPage, present } from "./app.js";
import { open } from "./gallery.js";
import { ask, stop } from "./requests.js";
import { hold as held } from "./labels.js";
import { render } from "./page.js";
import { examplesIn, withMark } from "./question.js";
import { hideCopied } from "./saving.js";
import { select } from "./selection.js";

const find = (selector) => document.querySelector(selector);
const on = (selector, kind, work) => find(selector).addEventListener(kind, work);
const words = find("#concepts");
const { question } = app;

const NUMBERS = [["#tile-size", "tileSize"], ["#min-area", "minArea"], ["#fill-holes", "fillHoles"]];

export function showSettings() {
  for (const [selector, name] of NUMBERS) find(selector).value = question[name] ?? "";
  find("#keep-largest").checked = question.keepLargest;
  find("#value-range").value = question.valueRange ?? "";
}

// The images are sent again, to be decoded otherwise; this one at once.
async function changeRange(input) {
  const range = input.value.trim();
  const [low, high, ...more] = range.split(",").map((part) => (part.trim() ? Number(part) : NaN));
  const isRight = ["", "auto", "type"].includes(range) || (low < high && !more.length);
  input.setCustomValidity(isRight ? "" : "auto, type, or two numbers as LOW,HIGH");
  if (!input.reportValidity()) return;
  question.valueRange = range && range !== "auto" ? range : null;
  keepPage();
  if (!app.current) return;
  await open(app.current);
  if (isAnswered(present())) askAgain();
}

export function setMode(mode) {
  if (find(`[name=mode][value=${mode}]`).closest("label").hidden) return;
  question.mode = mode;
  keepPage();
  render();
}

export function mark(made) {
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

export function escape() {
  const { marks, picked } = present();
  if (app.selected.size) select([]);
  else if (marks.concept.length || marks.visual.length || picked) clearMarks();
}

// What is shown stays; the next question adds to it.
export function hold() {
  if (find("#hold").disabled) return;
  const state = present();
  if (question.task === "visual") {
    const gone = new Set(state.discarded);
    const picked = (state.picked?.instances ?? []).filter(({ id }) => !gone.has(id));
    const marks = { ...state.marks, visual: [] };
    const all = [...state.held, ...picked];
    commit({ ...state, held: all, marks, picked: null, correcting: null, base: null });
  } else {
    commit(held(state, app.threshold));
  }
  stop();
  select([]);
  render();
}

export function toggleOff() {
  app.isOff = !app.isOff;
  render();
}

export function watchQuestion() {
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
  for (const [selector, name] of NUMBERS) {
    on(selector, "change", ({ target }) => {
      question[name] = target.value === "" ? null : target.valueAsNumber;
      askAgain();
    });
  }
  on("#keep-largest", "change", ({ target }) => {
    question.keepLargest = target.checked;
    askAgain();
  });
  on("#value-range", "change", ({ target }) => changeRange(target));
  on("#refine", "click", () => {
    question.refine = !question.refine;
    askAgain();
  });
  on("#reference-keep", "click", () => {
    const { id, name, file, range } = app.current;
    const boxes = examplesIn(present().marks).map(({ box }) => box);
    question.reference = { image: { id, name, file, range }, boxes };
    render();
  });
  on("#reference-forget", "click", () => {
    question.reference = null;
    askAgain();
  });
}
