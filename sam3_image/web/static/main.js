// The page: one picture, one question, and the newest answer to it.

import * as api from "./api.js";
import { watchKeys, watchPointer } from "./gestures.js";
import { watchIntake } from "./intake.js";
import { openKeys, watchShortcuts } from "./keys.js";
import { showLooks, watchLooks } from "./looks.js";
import * as pictures from "./picture.js";
import { FLOOR, Question } from "./question.js";
import * as results from "./results.js";
import { watchSaving } from "./saving.js";
import { Stage } from "./stage.js";

const BUSY_AFTER = 150; // milliseconds in which an answer comes without being waited for

const find = (selector) => document.querySelector(selector);
const canvas = find("#canvas");
const words = find("#concepts");
const threshold = find("#threshold");

const stage = new Stage(canvas);
const question = new Question();
let about = { palette: [[0, 0, 0]] };
let picture = null;
// {pictures, inputs, task, asked, candidates, floor, instances, scores, metrics, entries}
let answer = null;
let hovered = null; // instances by index: under the pointer or in focus,
let chosen = null; // and clicked in the list
let running = new AbortController();

// Runs `work(signal)` instead of whatever runs: only the newest request's outcome counts.
async function newest(doing, work) {
  running.abort();
  const own = (running = new AbortController());
  refuse(null);
  const waiting = setTimeout(() => setBusy(doing), BUSY_AFTER);
  try {
    await work(own.signal);
  } catch (error) {
    if (own.signal.aborted) return;
    forgetAnswer();
    refuse(error.message);
  } finally {
    clearTimeout(waiting);
    if (running === own) setBusy(null);
  }
}

function setBusy(doing) {
  find("#busy").hidden = doing === null;
  find("#view").setAttribute("aria-busy", String(doing !== null));
  if (doing === null) render();
  else results.say(doing);
}

function refuse(sentence) {
  find("#error").textContent = sentence ?? "";
  find("#error").hidden = sentence === null;
}

function load(file, name) {
  return newest("Opening the picture…", async (signal) => {
    if (file.size > about.max_upload_bytes) throw new Error(about.too_long);
    picture = null;
    canvas.hidden = true;
    question.clearAll();
    forgetAnswer();
    render();
    const opened = await pictures.open(file, name, signal);
    if (signal.aborted) return;
    picture = opened;
    canvas.hidden = false;
    find("#empty").hidden = true;
    find("#view").classList.add("shown");
    find("#picture-name").textContent = `${name}, ${picture.width} × ${picture.height}`;
    stage.show(picture);
    // The next step; but on a phone this would bring up the keyboard.
    if (matchMedia("(pointer: fine)").matches) words.focus({ preventScroll: true });
  });
}

function ask() {
  if (!picture) return;
  if (question.isEmpty()) {
    running.abort();
    forgetAnswer();
    render();
    return;
  }
  const asked = {
    pictures: [picture, question.task === "concept" && question.reference?.picture].filter(Boolean),
    inputs: question.inputs(),
    task: question.task,
    asked: String(question),
    candidates: question.candidates && question.task === "visual",
    floor: Math.min(FLOOR, results.thresholdValue()),
  };
  render();
  newest("Segmenting…", async (signal) => {
    const inputs = { ...asked.inputs };
    if (asked.task === "concept") inputs.threshold = asked.floor;
    const { annotations, scores, metrics } = await api.segment(asked.pictures, inputs, signal);
    if (signal.aborted) return;
    show({ ...asked, instances: annotations.instances, scores, metrics });
  });
}

function show(given) {
  answer = given;
  answer.entries = results.entries(answer.instances, answer.scores, about.palette, {
    hover: setHovered,
    choose: (index) => setChosen(index === chosen ? null : index),
  });
  hovered = null;
  chosen = answer.candidates ? 0 : null;
  results.clearEntries();
  find("#copied-row").hidden = true;
  stage.setInstances(answer.instances, about.palette);
}

function forgetAnswer() {
  answer = null;
  hovered = chosen = null;
  results.clearEntries();
  if (picture) stage.setInstances([], about.palette);
}

// How many instances are shown: all of a pick, those above the threshold of a search.
function shownCount() {
  if (!answer) return 0;
  if (answer.task === "visual") return answer.scores.length;
  return results.countAbove(answer.scores, results.thresholdValue());
}

function setHovered(index) {
  hovered = index;
  light();
}

function setChosen(index) {
  chosen = index;
  light();
}

function light() {
  const lit = hovered ?? chosen;
  stage.lit = answer?.candidates ? null : lit;
  stage.only = answer?.candidates ? (lit ?? 0) : null;
  results.mark(hovered, chosen);
  stage.draw();
}

// Everything that depends on picture, question, answer and threshold.
function render() {
  const count = shownCount();
  if (chosen !== null && chosen >= count) chosen = null;
  hovered = null; // entries vanish under the pointer without telling
  find("#run").disabled = !picture;
  find("#undo").disabled = find("#clear").disabled = question.shown.length === 0;
  find(`[name=task][value=${question.task}]`).checked = true;
  find("#candidates-row").hidden = question.task !== "visual";
  find("#words-note").textContent = question.task === "visual" && question.concepts().length
    ? "Not part of this question, which is about one object. Enter asks for the words."
    : "Enter asks, Shift+Enter begins a new line.";
  find("#threshold-row").hidden = answer?.task !== "concept" || answer.scores.length === 0;
  results.showThreshold();
  showLooks(question);
  find("#take").hidden = !answer;
  stage.marks = question.shown;
  results.say(sentence(count));
  if (answer) {
    results.showEntries(answer.entries, count);
    results.showTiming(answer.metrics);
  } else {
    results.hideTiming();
  }
  stage.setVisible([...Array(count).keys()]);
  light();
}

function sentence(count) {
  if (!picture) return "Choose a picture to begin.";
  if (!answer) return "Type what to find, click an object, or drag a box around one.";
  return results.summary(answer, count, results.thresholdValue());
}

// What gives the answer that is shown, at the threshold that is set.
function answered() {
  if (!answer) return null;
  const { pictures: asked, inputs, task } = answer;
  const cut = task === "concept" ? { threshold: results.thresholdValue() } : {};
  return { pictures: asked, inputs: { ...inputs, ...cut } };
}

function sign(isOff) {
  return isOff ? 0 : Number(find("[name=sign]:checked").value);
}

const gestures = {
  point(position, isOff) {
    question.addPoint(position, sign(isOff));
    ask();
  },
  box(box, isOff) {
    question.addBox(box, sign(isOff));
    ask();
  },
  hover(position) {
    const index = position && answer ? stage.instanceAt(position) : null;
    if (index === hovered) return;
    setHovered(index);
    if (index !== null) results.reveal(index);
  },
};

function setTask(task) {
  if (question.task === task) return;
  question.task = task;
  ask();
  render();
}

function undo() {
  if (question.undo()) ask();
}

function clear() {
  question.clear();
  chosen = null;
  ask();
}

function askWords() {
  question.words = words.value;
  if (question.concepts().length) question.task = "concept";
  ask();
}

function moveThreshold(step) {
  if (find("#threshold-row").hidden) return;
  threshold.valueAsNumber += step;
  threshold.dispatchEvent(new Event("input"));
  threshold.dispatchEvent(new Event("change"));
}

function watch() {
  const save = watchSaving({ answered, isDemo: () => about.demo, refuse });
  watchLooks(question, { current: () => picture, ask, render });
  watchIntake(find("#stage"), find("#file"), { take: load, refuse });
  watchPointer(canvas, stage, gestures);
  watchKeys(canvas, stage, () => [picture.width, picture.height], gestures);
  watchShortcuts({
    1: () => setTask("concept"),
    2: () => setTask("visual"),
    x: () => find("[name=sign]:not(:checked)").click(),
    "[": () => moveThreshold(-0.05),
    "]": () => moveThreshold(0.05),
    "?": openKeys,
    Escape: clear,
  }, { z: undo, s: () => save("zip") });
  find("#example").addEventListener("click", async () => load(await api.example(), "shapes.png"));
  find("#run").addEventListener("click", askWords);
  find("#undo").addEventListener("click", undo);
  find("#clear").addEventListener("click", clear);
  words.addEventListener("input", () => (question.words = words.value));
  words.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    askWords();
  });
  for (const choice of document.querySelectorAll("[name=task]")) {
    choice.addEventListener("change", () => setTask(choice.value));
  }
  find("#candidates").addEventListener("change", (event) => {
    question.candidates = event.target.checked;
    ask();
  });
  threshold.addEventListener("input", render);
  threshold.addEventListener("change", () => {
    if (answer?.task === "concept" && results.thresholdValue() < answer.floor) ask();
  });
}

async function begin() {
  watch();
  try {
    about = await api.about();
  } catch (error) {
    refuse(error.message);
    return;
  }
  const badge = find("#model");
  badge.hidden = false;
  badge.classList.toggle("plain", !about.demo);
  badge.textContent = about.demo
    ? "Demo checkpoint: it knows drawn shapes such as “red circle” or “striped star”, nothing else"
    : about.name;
}

begin();
