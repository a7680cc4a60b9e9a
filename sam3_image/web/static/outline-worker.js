// Traces outlines and draws them, beside the page: neither may stop it, however many there are.

import { TOLERANCES, trace } from "./trace.js";

const FINE = 0.75; // pixels of the screen that an outline may be off
const DIM = 0.45; // of the tint of instances beside the one pointed at, and somewhat of their outline
const LINE = 2; // width of an outline
const RIM = 2.5; // by how much its rim is wider

const outlines = new Map(); // key → {box, levels, paths: a Path2D for each level, made when needed}
const canvas = new OffscreenCanvas(1, 1);
const context = canvas.getContext("2d");

const work = {
  // masks: [[key, run lengths]] → what the page needs of each, or null for an empty one
  trace({ masks }) {
    return [masks.map(([key, rle]) => {
      const traced = trace(rle);
      if (!traced) return null;
      const { levels, ...rest } = traced;
      outlines.set(key, { box: traced.box, levels, paths: [] });
      return rest;
    }), []];
  },

  forget() {
    outlines.clear();
    return [null, []];
  },

  // width, height: of the canvas, in its own pixels. scale, x, y: from the image to the canvas.
  // ratio: pixels of the canvas to one of the page. instances: [{key, color, isLit}], the last on
  // top. → an ImageBitmap
  draw({ width, height, scale, x, y, ratio, opacity, isDimmed, instances }) {
    canvas.width = width;
    canvas.height = height;
    context.setTransform(scale, 0, 0, scale, x, y);
    context.lineJoin = "round";
    const level = Math.max(0, TOLERANCES.findLastIndex((one) => one * scale <= FINE * ratio));
    for (const { key, color, isLit } of instances) {
      const outline = outlines.get(key);
      if (!outline) continue;
      const [x0, y0, x1, y1] = outline.box;
      const isSeen = x0 * scale + x < width && y0 * scale + y < height
        && x1 * scale + x > 0 && y1 * scale + y > 0;
      if (!isSeen) continue;
      outline.paths[level] ??= pathOf(outline.levels[level]);
      paint(outline.paths[level], color, { opacity, pixel: ratio / scale, isLit, isDimmed });
    }
    const bitmap = canvas.transferToImageBitmap();
    return [bitmap, [bitmap]];
  },
};

self.addEventListener("message", ({ data: { number, kind, ...given } }) => {
  const [result, transferred] = work[kind](given);
  self.postMessage({ number, result }, transferred);
});

// pixel: one of the page, in those of the image.
function paint(path, color, { opacity, pixel, isLit, isDimmed }) {
  const [r, g, b] = color;
  const isQuiet = isDimmed && !isLit;
  if (opacity > 0) {
    context.globalAlpha = 1;
    context.fillStyle = `rgb(${r} ${g} ${b} / ${opacity * (isQuiet ? DIM : 1)})`;
    context.fill(path, "evenodd");
  }
  context.globalAlpha = isQuiet ? 0.6 : 1;
  const line = (isLit ? LINE + 1.5 : LINE) * pixel;
  context.strokeStyle = rimOf(color);
  context.lineWidth = line + RIM * pixel;
  context.stroke(path);
  context.strokeStyle = `rgb(${r} ${g} ${b})`;
  context.lineWidth = line;
  context.stroke(path);
}

// A light line around dark colors, a dark one around light colors.
function rimOf([red, green, blue]) {
  const isLight = 0.299 * red + 0.587 * green + 0.114 * blue > 140;
  return isLight ? "rgb(0 0 0 / 0.8)" : "rgb(255 255 255 / 0.9)";
}

function pathOf(rings) {
  const path = new Path2D();
  for (const ring of rings) {
    path.moveTo(ring[0], ring[1]);
    for (let at = 2; at < ring.length; at += 2) path.lineTo(ring[at], ring[at + 1]);
    path.closePath();
  }
  return path;
}
