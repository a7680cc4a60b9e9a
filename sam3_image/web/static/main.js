// The page: wires what a person does to what the page knows.

import * as api from "./api.js";
import { answerOf, app, conceptsOf, instances, isAnswered, present } from "./app.js";
import { escape, hold, setMode, showSettings, toggleOff, watchQuestion } from "./asking.js";
import { askAll, cancelAll } from "./requests.js";
import * as gallery from "./gallery.js";
import { watchIntake } from "./intake.js";
import { openKeys, watchShortcuts } from "./keys.js";
import { kept } from "./labels.js";
import { watchMenus } from "./menus.js";
import { fail, render, stage } from "./page.js";
import { offerFormats, watchSaving } from "./saving.js";
import { discardSelected, keepOnly, select, selectNext, watchInstances } from "./selection.js";
import * as session from "./session.js";
import { watchStrip } from "./strip.js";
import { askForToken } from "./token.js";
import { moveThreshold, toggleHidden, travel, watchImage, watchThreshold, zoomed } from "./viewing.js";

const find = (selector) => document.querySelector(selector);
const on = (selector, kind, work) => find(selector).addEventListener(kind, work);
const { question } = app;

function current() {
  if (!app.current || !isAnswered(present())) return null;
  const state = present();
  return {
    image: app.current,
    instances: kept(state, app.threshold),
    concepts: conceptsOf([state]),
  };
}

function all() {
  const answered = app.images.filter(({ history }) => isAnswered(history.present));
  return {
    parts: answered.map((image) => {
      return { image, instances: kept(image.history.present, app.threshold) };
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
    current, all, question: asked, fail, opacity: () => app.opacity, about: () => app.about,
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
    s: () => find("#format").focus(),
    r: () => app.selected.size && find("#name").select(),
    ",": () => gallery.step(-1),
    ".": () => gallery.step(1),
    PageUp: () => gallery.step(-1),
    PageDown: () => gallery.step(1),
    "+": () => zoomed((view) => view.zoom(1.5)),
    "-": () => zoomed((view) => view.zoom(1 / 1.5)),
    f: () => zoomed((view) => view.fit()),
    z: () => zoomed((view) => view.actual()),
    h: toggleHidden,
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

function showPage({ words: typed, mode, threshold, opacity, coloring, ...settings }) {
  const isOffered = mode !== "everything" || app.about.tasks.includes("everything");
  Object.assign(question, { words: typed, mode: isOffered ? mode : "words" });
  question.restore(settings);
  Object.assign(app, { threshold, opacity, coloring });
  stage.opacity = opacity;
  find("#concepts").value = typed;
  showSettings();
  find("#opacity").value = opacity;
  find("#coloring").value = coloring;
}

async function begin() {
  let refused = false; // for want of a token
  api.prepare({
    images: (wanted) => {
      const all = [...app.images, question.reference?.image];
      return all.find((image) => image?.id === wanted);
    },
    ask: (error) => {
      refused = true;
      fail(error);
      return askForToken();
    },
  });
  watch();
  render();
  try {
    app.about = { ...app.about, ...(await api.about()) };
    if (refused) fail(null);
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
