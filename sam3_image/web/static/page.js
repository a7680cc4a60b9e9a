// Shows what `app` says: status, list, strip, buttons, and the canvas.

import { answerOf, app, instances, isAnswered, present } from "./app.js";
import { countAbove, kept } from "./labels.js";
import { lightRow, showList, showSelection } from "./list.js";
import { traceAll } from "./outlines.js";
import { examplesIn } from "./question.js";
import * as sentences from "./sentences.js";
import { Stage } from "./stage.js";
import { showStrip } from "./strip.js";

const find = (selector) => document.querySelector(selector);
const isTouch = matchMedia("(pointer: coarse)").matches;

export const stage = new Stage(find("#canvas"));

const NOTES = {
  words: ["Enter segments. Click selects, drag moves the image.",
    "Tap to select, drag to move the image, pinch to zoom."],
  example: ["Drag a box around one: all that look like it are found.",
    "Drag a box around one: all that look like it are found."],
  object: ["Click an object (Shift: what is not part), or drag a box.",
    "Tap an object, or drag a box around it."],
  everything: ["Finds every object. It takes a while.", "Finds every object. It takes a while."],
};

export function say(text) {
  if (find("#status").textContent !== text) find("#status").textContent = text;
}

// An Error, or null; `title` says what went wrong, the message is the server's sentence.
export function fail(error) {
  find("#error").hidden = error === null;
  find("#error-title").textContent = error?.title ?? error?.message ?? "";
  find("#error-detail").textContent = error?.title ? error.message : "";
}

export function setBusy(doing) {
  find("#busy").hidden = doing === null;
  find("#view").setAttribute("aria-busy", String(doing !== null));
  if (doing === null) render();
  else say(doing);
}

// Traces what the present state shows, and shows it.
export async function show() {
  const { found, picked, held } = present();
  const all = [...held, ...(found?.instances ?? []), ...(picked?.instances ?? [])];
  await traceAll(all.map(({ rle }) => rle));
  render();
}

export function render() {
  const listing = instances();
  const ids = new Set(listing.map(({ id }) => id));
  app.selected = new Set([...app.selected].filter((id) => ids.has(id)));
  if (!ids.has(app.hovered)) app.hovered = null;
  showImage();
  showQuestion();
  showAnswer();
  showTake();
  showImages();
  light();
}

function showImage() {
  const { current } = app;
  const isShown = current?.bitmaps != null;
  find("#canvas").hidden = find("#tools").hidden = !isShown;
  find("#empty").hidden = current !== null;
  find("#image-name").textContent = isShown
    ? `${current.name}, ${current.width} × ${current.height}` : "";
  find("#remove").disabled = current === null;
  find("#clear-session").disabled = app.images.length === 0;
  find("#undo").disabled = !current?.history.canUndo;
  find("#redo").disabled = !current?.history.canRedo;
  showZoom();
}

export function showZoom() {
  const percent = stage.view.scale * devicePixelRatio * 100;
  find("#zoom").textContent = `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
}

function showQuestion() {
  const { question, current } = app;
  const { marks, correcting } = present();
  find(`[name=mode][value=${question.mode}]`).checked = true;
  const number = instances().findIndex(({ id }) => id === correcting) + 1;
  find("#mode-note").textContent = number
    ? `Correcting number ${number}: ${isTouch ? "tap" : "click"} what is missing, or what is too much with “Not this”.`
    : NOTES[question.mode][Number(isTouch)];
  find("#run").disabled = !current;
  const isMarking = question.mode === "example" || question.mode === "object";
  const isMarked = marks.concept.length + marks.visual.length > 0;
  find("#off").hidden = !isMarking;
  find("#clear").hidden = !isMarking && !isMarked;
  find("#clear").disabled = !isMarked;
  find("#hold").textContent = question.mode === "object" ? "Next object" : "Keep, ask more";
  find("#off").setAttribute("aria-pressed", String(app.isOff));
  find("#hold").disabled = kept(present(), app.threshold).length === present().held.length;
  find("#refine").setAttribute("aria-pressed", String(question.refine));
  find("#reference-keep").disabled = examplesIn(marks).length === 0;
  find("#reference-forget").hidden = !question.reference;
  find("#reference-name").textContent = question.reference
    ? `${question.reference.boxes.length} from ${question.reference.image.name}`
    : "Drag boxes around examples first.";
}

function showAnswer() {
  const state = present();
  const { found } = state;
  const count = found ? countAbove(found, app.threshold) : 0;
  say(sentence(state, count));
  find("#show-best").hidden = !found || found.task === "everything" || count > 0;
  find("#threshold-row").hidden = !found || found.instances.length === 0;
  find("#threshold").value = app.threshold;
  find("#threshold-value").textContent = app.threshold.toFixed(2);
  const answer = answerOf(state);
  find("#timing").hidden = !answer;
  if (!answer) return;
  find("#timing summary").textContent = sentences.total(answer.metrics);
  find("#timing dl").replaceChildren(...sentences.stages(answer.metrics).flatMap(([name, time]) => {
    return [["dt", name], ["dd", time]].map(([tag, text]) => {
      const element = document.createElement(tag);
      element.textContent = text;
      return element;
    });
  }));
}

function sentence(state, count) {
  if (!app.current) return "Choose an image to begin.";
  const answer = answerOf(state);
  const gone = instances().length - kept(state, app.threshold).length;
  const discarded = gone ? ` ${gone} discarded.` : "";
  if (answer) return sentences.summary(answer, count, app.threshold) + discarded;
  if (state.held.length) return `${sentences.plural(state.held.length, "instance")} kept. Ask for more, or save.`;
  return "Type what to find, or click an object.";
}

function showTake() {
  find("#take").hidden = !app.current || !isAnswered(present());
  find("#save-all").hidden = app.images.length < 2;
  find("#save-all").textContent = `Save all ${app.images.length}`;
}

function showImages() {
  showStrip(app.images.map((image) => {
    const state = image.history.present;
    const count = isAnswered(state) ? kept(state, app.threshold).length : null;
    return { ...image, count, isFailed: image.failure !== null };
  }), app.current?.key);
  find("#all-run").textContent = `Segment all ${app.images.length}`;
  const at = app.images.indexOf(app.current);
  find("#previous").disabled = at <= 0;
  find("#next").disabled = at < 0 || at === app.images.length - 1;
}

// What depends on what is pointed at and selected.
export function light() {
  const state = present();
  const { palette } = app.about;
  const gone = new Set(state.discarded);
  const names = [...new Set(instances().map(({ concept }) => concept))];
  const hidden = otherCandidates(state, gone);
  const shown = instances().map((instance, index) => {
    const { id, tone, concept } = instance;
    const isSelected = app.selected.has(id);
    const isDiscarded = gone.has(id);
    const color = app.coloring === "instance" ? tone : names.indexOf(concept);
    return {
      ...instance,
      number: index + 1,
      color: palette[color % palette.length],
      isSelected,
      isDiscarded,
      isDrawn: !hidden.has(id) && (!isDiscarded || isSelected || id === app.hovered),
    };
  });
  stage.instances = shown;
  stage.marks = app.question.task === "visual" ? state.marks.visual : state.marks.concept;
  stage.lit = app.hovered;
  stage.draw();
  showList(shown);
  lightRow(app.hovered);
  const selected = shown.filter(({ isSelected }) => isSelected);
  showSelection({
    count: selected.length,
    isDiscarded: selected.length > 0 && selected.every(({ isDiscarded }) => isDiscarded),
    name: new Set(selected.map(({ concept }) => concept)).size === 1 ? selected[0].concept : "",
    names: [...new Set([...app.question.concepts(), ...names])],
    isAny: shown.length > 0,
  });
}

// Of several candidates of a click one is looked at: the one pointed at, selected, or the first.
function otherCandidates({ picked }, gone) {
  if (!picked?.isChoice) return new Set();
  const ids = picked.instances.map(({ id }) => id).filter((id) => !gone.has(id));
  const active = ids.find((id) => id === app.hovered) ?? ids.find((id) => app.selected.has(id)) ?? ids[0];
  return new Set(ids.filter((id) => id !== active));
}

// Only what the pointer changes, without going through the list.
export function hover(id) {
  if (id === app.hovered) return;
  const { picked, discarded } = present();
  const wasHidden = [id, app.hovered].some((one) => discarded.includes(one));
  app.hovered = id;
  if (picked?.isChoice || wasHidden) {
    light();
    return;
  }
  stage.lit = id;
  stage.draw();
  lightRow(id);
}

