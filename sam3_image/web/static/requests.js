// Questions to the server, about the image that is looked at and about all of them.

import * as api from "./api.js";
import { amend, app, present } from "./app.js";
import { keepImage } from "./session.js";
import { countAbove, nextTone, numbered } from "./labels.js";
import { traceAll } from "./outlines.js";
import { fail, render, setBusy } from "./page.js";
import { FLOOR } from "./question.js";
import { plural } from "./sentences.js";

const BUSY_AFTER = 150; // milliseconds in which an answer comes without being waited for

const find = (selector) => document.querySelector(selector);

let running = new AbortController();

// Runs `work(signal)` instead of whatever runs: only the newest request's outcome counts.
// onFailure() is called before an error is shown.
export async function newest(doing, work, onFailure = () => {}) {
  running.abort();
  const own = (running = new AbortController());
  fail(null);
  const timer = setTimeout(() => setBusy(doing), BUSY_AFTER);
  try {
    await work(own.signal);
  } catch (error) {
    if (own.signal.aborted) return;
    onFailure(error);
    fail(error);
  } finally {
    clearTimeout(timer);
    if (running === own) setBusy(null);
  }
}

export function stop() {
  running.abort();
}

// Sends the image's file, where the server has not had it yet, or is to decode it otherwise.
export async function sent(image, signal) {
  const range = app.question.valueRange;
  if (image.id && image.range === range) return;
  if (image.file.size > app.about.max_upload_bytes) {
    throw api.refusal("This file is too large for the server.", app.about.too_long, 413);
  }
  Object.assign(image, await api.upload({ file: image.file, range }, signal), { range });
  keepImage(image);
}

const slotOf = (task) => (task === "visual" ? "picked" : "found");

let waiting = null; // the image that was asked about before it was open

export function askWhatWaited() {
  const isWaiting = waiting !== null && waiting === app.current;
  waiting = null;
  if (isWaiting) ask();
}

// Asks about the present image, after a step that changed the question.
export function ask(task = app.question.task) {
  const { current: image, question } = app;
  if (!image) return Promise.resolve();
  if (!image.bitmaps) {
    waiting = image;
    return Promise.resolve();
  }
  const slot = slotOf(task);
  const forget = () => amend(image, { ...image.history.present, [slot]: null });
  if (question.isEmpty(present().marks, task)) {
    stop();
    forget();
    render();
    return Promise.resolve();
  }
  render();
  return newest("Segmenting…", async (signal) => {
    const answer = await answerTo(image, task, signal);
    if (signal.aborted) return;
    app.hovered = null;
    amend(image, answered(image.history.present, slot, answer));
  }, forget);
}

async function answerTo(image, task, signal) {
  const { question } = app;
  const state = image.history.present;
  const inputs = question.inputs(state.marks, task, task === "visual" ? state.base : null);
  const answer = {
    task,
    asked: question.describe(state.marks, task),
    inputs,
    reference: task === "concept" ? question.reference?.image.name ?? null : null,
    floor: task === "concept" ? Math.min(FLOOR, app.threshold) : 0,
    isChoice: task === "visual" && question.candidates,
  };
  const name = question.name();
  await sent(image, signal);
  const { value_range: _, ...now } = inputs; // with which the image was sent
  if (task === "concept") now.threshold = answer.floor;
  const { annotations, scores, metrics } = await api.segment(
    image.id, now, task === "visual", signal);
  answer.metrics = metrics;
  answer.instances = numbered(annotations.instances, scores, nextTone(state, task));
  if (task === "visual") {
    answer.instances = answer.instances.map((instance) => ({ ...instance, concept: name }));
  }
  if (image === app.current) await traceAll(answer.instances.map(({ rle }) => rle));
  return answer;
}

function answered(state, slot, answer) {
  if (slot === "found" || !state.correcting) return { ...state, [slot]: answer };
  // The instance that is corrected keeps its place and its name.
  const [{ rle, area, box, score }] = answer.instances;
  const change = (one) => (one.id === state.correcting ? { ...one, rle, area, box, score } : one);
  const { found } = state;
  return {
    ...state,
    held: state.held.map(change),
    found: found && { ...found, instances: found.instances.map(change) },
  };
}

// Moves the threshold to where the best instance shows, whatever its score.
export async function showBest() {
  const image = app.current;
  if (present().found?.instances.length === 0) {
    app.threshold = 0;
    await ask("concept");
  }
  const best = image.history.present.found?.instances[0]?.score;
  if (best === undefined || image !== app.current) return;
  const value = Math.floor(best * 100) / 100;
  const isAbove = countAbove({ instances: [{ score: best }] }, value) === 1;
  app.threshold = Math.max(0, isAbove ? value : value - 0.01);
  render();
}

let all = null; // the AbortController of what runs over all images

// Asks the words (and the examples of another image) of every image that has not answered them.
export async function askAll() {
  if (all) return;
  const { question } = app;
  if (question.isEmpty({ concept: [], visual: [] }, "concept")) {
    note("Type what to find first.");
    return;
  }
  all = new AbortController();
  const open = app.images.filter((image) => !isAnsweredBy(image));
  showProgress(0, open.length);
  fail(null);
  let failed = 0;
  for (const [index, image] of open.entries()) {
    if (all.signal.aborted) break;
    failed += Number(!(await askOne(image, all.signal)));
    showProgress(index + 1, open.length);
    render();
  }
  const isCanceled = all.signal.aborted;
  all = null;
  find("#all-progress").hidden = true;
  find("#all-run").disabled = false;
  const done = isCanceled ? "Canceled." : `${plural(open.length - failed, "image")} segmented.`;
  note(failed && !isCanceled ? `${done} ${failed} failed.` : done);
}

function isAnsweredBy({ history: { present: state } }) {
  const inputs = app.question.inputs(state.marks, "concept");
  return JSON.stringify(state.found?.inputs) === JSON.stringify(inputs);
}

async function askOne(image, signal) {
  image.failure = null;
  try {
    const answer = await answerTo(image, "concept", signal);
    if (signal.aborted) return true;
    const state = { ...image.history.present, found: answer };
    image.history.commit(state);
    amend(image, state);
    return true;
  } catch (error) {
    if (signal.aborted) return true;
    image.failure = error;
    if (image === app.current || error.status === undefined) fail(error);
    return false;
  }
}

export function cancelAll() {
  all?.abort();
}

function showProgress(done, count) {
  find("#all-progress").hidden = false;
  find("#all-run").disabled = true;
  find("#all-bar").max = Math.max(1, count);
  find("#all-bar").value = done;
  find("#all-note").textContent = `${done} of ${count}`;
}

function note(text) {
  find("#all-note").textContent = text;
}

