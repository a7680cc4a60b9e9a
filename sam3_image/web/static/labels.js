// What is known about one image: marks, answers, what was kept and discarded. A state is never
// changed: each step makes a new one, so undoing is going back to the one before.

import { NO_MARKS } from "./question.js";

const STEPS = 100; // that can be undone

// found: the answer to words or examples. picked: the one object under the marks, perhaps in three
// candidates. Both are {task, asked, inputs, reference, floor, isChoice, instances, metrics} or null.
// held: instances of earlier questions. discarded: ids. Instances: {id, tone, concept, score, area,
// rle, …}; tone: the number of its color.
export const NOTHING = { marks: NO_MARKS, found: null, picked: null, held: [], discarded: [] };

export class History {
  #past = [];
  #future = [];

  constructor(state = NOTHING) {
    this.present = state;
  }

  // A step of the person's.
  commit(state) {
    this.#past = [...this.#past.slice(1 - STEPS), this.present];
    this.#future = [];
    this.present = state;
  }

  // What follows from the last step, such as an answer: undone together with it.
  amend(state) {
    this.present = state;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  undo() {
    if (!this.canUndo) return false;
    this.#future.push(this.present);
    this.present = this.#past.pop();
    return true;
  }

  redo() {
    if (!this.canRedo) return false;
    this.#past.push(this.present);
    this.present = this.#future.pop();
    return true;
  }
}

// How many instances of an answer, best first, have a score above the threshold: the same strict
// comparison of 32-bit numbers as the server's.
export function countAbove({ instances }, threshold) {
  const cut = Math.fround(threshold);
  const below = instances.findIndex(({ score }) => !(score > cut));
  return below < 0 ? instances.length : below;
}

// All that is listed at this threshold, in order: held, found, picked.
export function listed({ held, found, picked }, threshold) {
  const passing = found ? found.instances.slice(0, countAbove(found, threshold)) : [];
  return [...held, ...passing, ...(picked?.instances ?? [])];
}

// What is listed and not discarded: that is what a file holds.
export function kept(state, threshold) {
  const gone = new Set(state.discarded);
  return listed(state, threshold).filter(({ id }) => !gone.has(id));
}

export function discard(state, ids, isGone) {
  const others = state.discarded.filter((id) => !ids.has(id));
  return { ...state, discarded: isGone ? [...others, ...ids] : others };
}

export function rename(state, ids, concept) {
  return mapped(state, (one) => (ids.has(one.id) ? { ...one, concept } : one));
}

function mapped(state, change) {
  const inAnswer = (answer) => answer && { ...answer, instances: answer.instances.map(change) };
  return {
    ...state,
    held: state.held.map(change),
    found: inAnswer(state.found),
    picked: inAnswer(state.picked),
  };
}

// What is shown stays, and the next question adds to it.
export function hold(state, threshold) {
  return { ...NOTHING, held: kept(state, threshold) };
}

// An answer's instances with ids, and with colors from `tone` on.
export function numbered(instances, scores, tone) {
  return instances.map((instance, index) => {
    return { ...instance, score: scores[index], id: newId(), tone: tone + index };
  });
}

// How many colors are taken by what an answer does not replace.
export function nextTone(state, task) {
  const stay = [...state.held, ...(task === "visual" ? state.found?.instances ?? [] : [])];
  return stay.reduce((most, { tone }) => Math.max(most, tone + 1), 0);
}

let last = 0;

function newId() {
  // Unlike those of a session that was kept.
  last = Math.max(last + 1, Date.now() * 1000);
  return last;
}
