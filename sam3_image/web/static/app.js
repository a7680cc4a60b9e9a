// What the page is about at this moment. Everything that is shown follows from it.

import { NOTHING, listed } from "./labels.js";
import { Question } from "./question.js";
import * as session from "./session.js";

export const app = {
  about: { palette: [[0, 0, 0]], formats: [], tasks: [], label_maps: [], mask_prompts: false },
  // {key, name, file, id, width, height, thumbnail (a URL or null), failure (an Error or null),
  // history}; id, width and height are null until the image was sent.
  images: [],
  current: null, // the image that is looked at
  question: new Question(),
  threshold: 0.5,
  opacity: 0.2,
  coloring: "instance",
  isOff: false, // whether the next mark says "not this"
  hovered: null, // id of the instance that is pointed at
  selected: new Set(), // ids of instances
};

export function present() {
  return app.current?.history.present ?? NOTHING;
}

// A step of the person's, which can be undone.
export function commit(state) {
  app.current.history.commit(state);
  session.keepState(app.current.key, state);
}

// What follows from the last step.
export function amend(image, state) {
  image.history.amend(state);
  session.keepState(image.key, state);
}

// The instances of the present image, as they are listed.
export function instances() {
  return listed(present(), app.threshold);
}

// Which answer the page talks about, and the programs ask for.
export function answerOf({ found, picked }) {
  return app.question.task === "visual" ? picked ?? found : found ?? picked;
}

// Concepts in the order of their classes: as asked for, then as they come.
export function conceptsOf(states) {
  const names = new Set();
  for (const { found } of states) for (const name of found?.inputs.prompts ?? []) names.add(name);
  for (const state of states) for (const { concept } of listed(state, 0)) names.add(concept);
  return [...names];
}

export function isAnswered({ found, picked, held }) {
  return Boolean(found || picked || held.length);
}

export function keepPage() {
  const { words, mode } = app.question;
  const { threshold, opacity, coloring } = app;
  const current = app.current?.key;
  const settings = app.question.settings();
  session.keepPage({ words, mode, ...settings, threshold, opacity, coloring, current });
}
