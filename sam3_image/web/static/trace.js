// Run lengths → outlines: closed rings along the edges of pixels, at several finenesses.

import { columnSpans, runEnds } from "./rle.js";

// How far, in pixels of the image, a ring of each level may lie from the exact one, about.
export const TOLERANCES = [0, 0.75, 1.5, 3, 6, 12];

// → {ends, height, box: [x0, y0, x1, y1], anchor: [x, y] inside the mask, levels: for each of
// TOLERANCES a list of rings, Float32Arrays x, y, x, y, …}; null for an empty mask.
export function trace({ size: [height], counts }) {
  const ends = runEnds(counts);
  const spans = columnSpans(ends, height);
  if (spans.length === 0) return null;
  const exact = rings(spans, height);
  const levels = [exact];
  for (const tolerance of TOLERANCES.slice(1)) {
    levels.push(coarser(levels.at(-1), tolerance));
  }
  return { ends, height, box: boxOf(spans), anchor: anchorOf(spans), levels };
}

function boxOf(spans) {
  let [top, bottom] = [Infinity, 0];
  for (let at = 0; at < spans.length; at += 3) {
    top = Math.min(top, spans[at + 1]);
    bottom = Math.max(bottom, spans[at + 2]);
  }
  return [spans[0], top, spans.at(-3) + 1, bottom];
}

// A point far from the edge: the middle of a long column near the mask's center.
function anchorOf(spans) {
  const center = (spans[0] + spans.at(-3)) / 2;
  const half = center - spans[0] + 1;
  let [best, merit] = [0, -1];
  for (let at = 0; at < spans.length; at += 3) {
    const length = spans[at + 2] - spans[at + 1];
    const value = length * (1 - Math.abs(spans[at] - center) / half / 2);
    if (value > merit) [best, merit] = [at, value];
  }
  return [spans[best] + 0.5, (spans[best + 1] + spans[best + 2]) / 2];
}

// The edges between inside and outside, with the inside on their right, linked to rings.
function rings(spans, height) {
  const stride = height + 1;
  const next = new Map(); // corner → the corner that follows, or two where pixels touch in it
  const add = (x0, y0, x1, y1) => {
    const [from, to] = [x0 * stride + y0, x1 * stride + y1];
    const known = next.get(from);
    next.set(from, known === undefined ? to : [known, to]);
  };
  let left = [];
  let column = -1;
  for (let at = 0; at < spans.length; ) {
    const x = spans[at];
    const right = [];
    for (; spans[at] === x; at += 3) {
      right.push(spans[at + 1], spans[at + 2]);
      add(x, spans[at + 1], x + 1, spans[at + 1]);
      add(x + 1, spans[at + 2], x, spans[at + 2]);
    }
    if (x > column + 1) {
      uprights(column + 1, left, [], add);
      left = [];
    }
    uprights(x, left, right, add);
    left = right;
    column = x;
  }
  uprights(column + 1, left, [], add);
  return linked(next, stride);
}

// The edges between two columns; left and right: the rows at which their spans begin and end.
function uprights(x, left, right, add) {
  let [l, r, y] = [0, 0, 0];
  while (l < left.length || r < right.length) {
    const at = Math.min(left[l] ?? Infinity, right[r] ?? Infinity);
    if (l % 2 !== r % 2) {
      if (r % 2) add(x, at, x, y);
      else add(x, y, x, at);
    }
    if (left[l] === at) l++;
    if (right[r] === at) r++;
    y = at;
  }
}

function linked(next, stride) {
  const take = (corner) => {
    const following = next.get(corner);
    if (Array.isArray(following)) {
      next.set(corner, following[0]);
      return following[1];
    }
    next.delete(corner);
    return following;
  };
  const found = [];
  for (const [start] of next) {
    while (next.has(start)) {
      const corners = [];
      let at = start;
      do {
        corners.push(Math.floor(at / stride), at % stride);
        at = take(at);
      } while (at !== start);
      found.push(withoutStraight(corners));
    }
  }
  return found;
}

// Without corners in the middle of a straight line.
function withoutStraight(ring) {
  const kept = [];
  const { length } = ring;
  for (let at = 0; at < length; at += 2) {
    const [bx, by] = [ring[(at + length - 2) % length], ring[(at + length - 1) % length]];
    const [ax, ay] = [ring[(at + 2) % length], ring[(at + 3) % length]];
    if ((bx === ring[at] && ax === bx) || (by === ring[at + 1] && ay === by)) continue;
    kept.push(ring[at], ring[at + 1]);
  }
  return Float32Array.from(kept);
}

// Simplified; holes and specks that could not be seen are left out.
function coarser(rings, tolerance) {
  const large = rings.filter((ring) => extent(ring) >= tolerance / 2);
  return (large.length ? large : rings.slice(0, 1)).map((ring) => simplified(ring, tolerance));
}

function extent(ring) {
  let [x0, y0, x1, y1] = [Infinity, Infinity, 0, 0];
  for (let at = 0; at < ring.length; at += 2) {
    x0 = Math.min(x0, ring[at]);
    x1 = Math.max(x1, ring[at]);
    y0 = Math.min(y0, ring[at + 1]);
    y1 = Math.max(y1, ring[at + 1]);
  }
  return Math.max(x1 - x0, y1 - y0);
}

// Douglas and Peucker's method, from a corner and the one farthest from it.
function simplified(ring, tolerance) {
  const count = ring.length / 2;
  if (count <= 4) return ring;
  const x = (index) => ring[2 * (index % count)];
  const y = (index) => ring[2 * (index % count) + 1];
  let far = 0;
  for (let index = 1, most = 0; index < count; index++) {
    const distance = (x(index) - x(0)) ** 2 + (y(index) - y(0)) ** 2;
    if (distance > most) [far, most] = [index, distance];
  }
  const keep = new Uint8Array(count);
  keep[0] = keep[far] = 1;
  const open = [[0, far], [far, count]];
  while (open.length) {
    const [from, to] = open.pop();
    const [dx, dy] = [x(to) - x(from), y(to) - y(from)];
    const norm = Math.hypot(dx, dy) || 1;
    let [worst, most] = [-1, tolerance];
    for (let index = from + 1; index < to; index++) {
      const off = Math.abs((x(index) - x(from)) * dy - (y(index) - y(from)) * dx) / norm;
      if (off > most) [worst, most] = [index, off];
    }
    if (worst < 0) continue;
    keep[worst] = 1;
    open.push([from, worst], [worst, to]);
  }
  const kept = [];
  for (let index = 0; index < count; index++) if (keep[index]) kept.push(x(index), y(index));
  return kept.length >= 6 ? Float32Array.from(kept) : ring;
}
