// The canvas: the picture, what was found in it, the marks, the crosshair.

import { covers, paint, sample } from "./masks.js";

const SIDE = 1600; // longer side of the canvas, in its own pixels
const LARGEST_SCALE = 8;
const DIMMED = 0.35;
const MASKS = 25; // so many may have the canvas's resolution; more of them share its pixels

export class Stage {
  #canvas;
  #context;
  #picture = null;
  #instances = [];
  #drawn = [];
  #scale = 1; // canvas pixels to one of the picture
  #maskScale = 1; // pixels of a mask to one of the picture

  // What the next `draw` shows beside the instances.
  marks = [];
  lit = null; // an instance, by index
  only = null; // the only instance that is drawn, by index
  cursor = null; // [x, y] in pixels of the picture
  box = null; // one that is being dragged

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  show(picture) {
    this.#picture = picture;
    const longer = Math.max(picture.width, picture.height);
    this.#scale = Math.min(LARGEST_SCALE, SIDE / longer);
    this.#canvas.width = Math.max(1, Math.round(picture.width * this.#scale));
    this.#canvas.height = Math.max(1, Math.round(picture.height * this.#scale));
    this.cursor = null;
    this.setInstances([], []);
  }

  // Canvas pixels to one on the screen, so that lines look alike at every size.
  get #density() {
    return this.#canvas.width / (this.#canvas.clientWidth || this.#canvas.width);
  }

  // instances: with their run lengths. palette: colors [r, g, b], used in turn.
  setInstances(instances, palette) {
    this.#maskScale = this.#scale * Math.min(1, Math.sqrt(MASKS / instances.length));
    const ratio = this.#maskScale / this.#scale;
    const line = Math.max(1, Math.round(1.5 * this.#density * ratio));
    this.#instances = instances.map(({ rle }, index) => {
      const mask = sample(rle, this.#maskScale);
      const color = palette[index % palette.length];
      return { mask, color, painted: mask && paint(mask, color, line) };
    });
    this.only = null;
    this.setVisible([]);
  }

  // Indices of the instances that are drawn, best first.
  setVisible(indices) {
    this.#drawn = indices;
    this.lit = null;
    this.draw();
  }

  // The instance on top at [x, y] of the picture, or null.
  instanceAt([x, y]) {
    const drawn = this.only === null ? this.#drawn : [this.only];
    const hit = drawn.find((index) =>
      covers(this.#instances[index].mask, x * this.#maskScale, y * this.#maskScale));
    return hit ?? null;
  }

  // Where in the picture a pointer is, kept inside it.
  position(event) {
    const area = this.#canvas.getBoundingClientRect();
    const { width, height } = this.#picture;
    const x = ((event.clientX - area.left) / area.width) * width;
    const y = ((event.clientY - area.top) / area.height) * height;
    return this.inside([x, y]);
  }

  // The nearest pixel's middle, in the picture.
  inside([x, y]) {
    const { width, height } = this.#picture;
    const within = (value, size) => Math.min(size - 0.5, Math.max(0.5, Math.floor(value) + 0.5));
    return [within(x, width), within(y, height)];
  }

  center() {
    return this.inside([this.#picture.width / 2, this.#picture.height / 2]);
  }

  draw() {
    if (!this.#picture) return;
    const { width, height } = this.#canvas;
    const context = this.#context;
    context.globalAlpha = 1;
    context.fillStyle = "white"; // what a transparent picture is shown on, here and to the model
    context.fillRect(0, 0, width, height);
    context.drawImage(this.#picture.bitmap, 0, 0, width, height);
    this.#drawInstances();
    for (const mark of this.marks) this.#drawMark(mark);
    if (this.box) this.#drawBox(this.box, null, true);
    if (this.cursor) this.#drawCursor(this.cursor);
  }

  #drawInstances() {
    const context = this.#context;
    const drawn = this.only === null ? this.#drawn : [this.only];
    // The best lies on top.
    for (const index of drawn.toReversed()) {
      const { painted } = this.#instances[index];
      if (!painted) continue;
      context.globalAlpha = this.lit === null || this.lit === index ? 1 : DIMMED;
      const { canvas, x, y } = painted;
      const larger = this.#scale / this.#maskScale;
      context.drawImage(canvas, x * larger, y * larger, canvas.width * larger, canvas.height * larger);
    }
    context.globalAlpha = 1;
    for (const index of drawn.toReversed()) this.#drawNumber(index);
  }

  #drawNumber(index) {
    const { mask, color } = this.#instances[index];
    if (!mask || (this.lit !== null && this.lit !== index)) return;
    const context = this.#context;
    const size = 13 * this.#density;
    const text = String(index + 1);
    context.font = `700 ${size}px system-ui, sans-serif`;
    const half = context.measureText(text).width / 2 + size * 0.35;
    const [x, y] = mask.anchor.map((value) => (value * this.#scale) / this.#maskScale);
    context.beginPath();
    context.roundRect(x - half, y - size * 0.75, 2 * half, size * 1.5, size * 0.6);
    context.fillStyle = "white";
    context.fill();
    context.lineWidth = 2 * this.#density;
    context.strokeStyle = `rgb(${color})`;
    context.stroke();
    context.fillStyle = "black";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(text, x, y + size * 0.06);
  }

  #drawMark(mark) {
    if (mark.box) this.#drawBox(mark.box, mark.label, false);
    else this.#drawPoint(mark.point, mark.label);
  }

  #drawPoint(point, label) {
    const context = this.#context;
    const [x, y] = point.map((value) => value * this.#scale);
    const radius = 9 * this.#density;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = label ? "#0a7a2f" : "#b00020";
    context.fill();
    this.#double(() => context.stroke());
    const arm = radius * 0.55;
    context.beginPath();
    context.moveTo(x - arm, y);
    context.lineTo(x + arm, y);
    if (label) {
      context.moveTo(x, y - arm);
      context.lineTo(x, y + arm);
    }
    context.strokeStyle = "white";
    context.lineWidth = 2.5 * this.#density;
    context.stroke();
  }

  #drawBox(box, label, dashed) {
    const context = this.#context;
    const [x0, y0, x1, y1] = box.map((value) => value * this.#scale);
    const unit = this.#density;
    context.setLineDash([]);
    context.strokeStyle = "white";
    context.lineWidth = 4 * unit;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    if (dashed) context.setLineDash([6 * unit, 4 * unit]);
    context.strokeStyle = label === 0 ? "#b00020" : dashed ? "black" : "#0a7a2f";
    context.lineWidth = 2 * unit;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.setLineDash([]);
    if (label === 0) {
      context.beginPath();
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      context.stroke();
    }
  }

  #drawCursor(position) {
    const context = this.#context;
    const [x, y] = position.map((value) => value * this.#scale);
    const arm = 16 * this.#density;
    context.beginPath();
    context.moveTo(x - arm, y);
    context.lineTo(x + arm, y);
    context.moveTo(x, y - arm);
    context.lineTo(x, y + arm);
    this.#double(() => context.stroke());
  }

  // A dark line on a wider light one: seen on any picture.
  #double(stroke) {
    this.#context.strokeStyle = "white";
    this.#context.lineWidth = 4 * this.#density;
    stroke();
    this.#context.strokeStyle = "black";
    this.#context.lineWidth = 1.5 * this.#density;
    stroke();
  }
}
