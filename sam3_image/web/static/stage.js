// The canvas: the image, what was found in it, the marks, the crosshair.

import { placeBadges } from "./badges.js";
import { drawOutlines, outlineOf } from "./outlines.js";
import { covers } from "./rle.js";
import { View } from "./view.js";

const PIXELS_FROM = 2; // from this scale on, pixels are squares
const MARGIN = 0.15; // of the canvas, drawn on each side of it so that panning shows something

export class Stage {
  view = new View();

  // What the next frame shows beside the image. Instances:
  // {id, number, rle, color: [r, g, b], isDrawn, isSelected}, best first.
  instances = [];
  lit = null; // id of the instance that is pointed at
  marks = [];
  cursor = null; // [x, y] in pixels of the image
  box = null; // one that is being dragged
  opacity = 0.2;
  hidesMasks = false;

  #canvas;
  #context;
  #bitmaps = null;
  #size = [1, 1];
  #isAwaited = false;
  // What the worker drew last: {bitmap, scale, x, y, state}, from the image to the canvas. A frame
  // shows it where it belongs by now, and asks for a newer one.
  #layer = null;
  #isDrawing = false;

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  show({ width, height }, bitmaps) {
    this.#bitmaps = bitmaps;
    this.#size = [width, height];
    this.#dropLayer();
    this.instances = [];
    this.cursor = this.box = null;
    this.#resize();
    this.view.show(width, height);
    this.draw();
  }

  hide() {
    this.#bitmaps = null;
    this.#dropLayer();
  }

  #dropLayer() {
    this.#layer?.bitmap.close();
    this.#layer = null;
  }

  #resize() {
    const { clientWidth, clientHeight } = this.#canvas;
    if (!clientWidth) return;
    this.#canvas.width = Math.round(clientWidth * devicePixelRatio);
    this.#canvas.height = Math.round(clientHeight * devicePixelRatio);
    this.view.resize(clientWidth, clientHeight);
    this.#paint(); // at once, for a canvas of another size is empty
  }

  // The instance at [x, y] of the image, the smallest where several overlap; null for none.
  instanceAt([x, y]) {
    const [column, row] = [Math.floor(x), Math.floor(y)];
    let [found, smallest] = [null, Infinity];
    for (const { id, rle, area, isDrawn } of this.instances) {
      const outline = isDrawn && area < smallest ? outlineOf(rle) : null;
      if (!outline) continue;
      const [x0, y0, x1, y1] = outline.box;
      if (column < x0 || row < y0 || column >= x1 || row >= y1) continue;
      if (covers(outline.ends, outline.height, column, row)) [found, smallest] = [id, area];
    }
    return found;
  }

  // Where on the canvas a pointer is.
  place({ clientX, clientY }) {
    const area = this.#canvas.getBoundingClientRect();
    return [clientX - area.left, clientY - area.top];
  }

  // Where in the image a pointer is, kept inside it.
  position(event) {
    return this.inside(this.view.toImage(this.place(event)));
  }

  // The nearest pixel's middle, in the image.
  inside([x, y]) {
    const within = (value, size) => Math.min(size - 0.5, Math.max(0.5, Math.floor(value) + 0.5));
    return [within(x, this.#size[0]), within(y, this.#size[1])];
  }

  center() {
    return this.inside(this.view.toImage(this.view.middle));
  }

  // Asks for a frame; however often it is called, there is one.
  draw() {
    if (this.#isAwaited) return;
    this.#isAwaited = true;
    requestAnimationFrame(() => {
      this.#isAwaited = false;
      this.#paint();
    });
  }

  #paint() {
    const { width, height } = this.#canvas;
    this.#context.setTransform(1, 0, 0, 1, 0, 0);
    this.#context.clearRect(0, 0, width, height);
    if (!this.#bitmaps) return;
    this.#paintImage();
    const isCurrent = this.hidesMasks || this.#paintLayer();
    this.#toScreen();
    for (const mark of this.marks) this.#paintMark(mark);
    if (this.box) this.#paintBox(this.box, null, true);
    if (this.cursor) this.#paintCursor(this.cursor);
    if (!this.hidesMasks) this.#paintBadges();
    const { scale, x, y } = this.view;
    // For tests: where the image lies, and whether all is drawn that is to be seen.
    this.#canvas.dataset.view = `${scale} ${x} ${y}`;
    this.#canvas.dataset.drawn = isCurrent;
  }

  #toScreen() {
    this.#context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  }

  #toImage() {
    const { scale, x, y } = this.view;
    const ratio = devicePixelRatio;
    this.#context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
  }

  #paintImage() {
    const context = this.#context;
    const { scale, window } = this.view;
    const needed = scale * devicePixelRatio;
    const level = this.#bitmaps.findLast((one) => one.scale >= needed) ?? this.#bitmaps[0];
    const [width, height] = this.#size;
    const { bitmap } = level;
    // Only what is seen, from whole pixels of the bitmap.
    const [sx, sy] = [bitmap.width / width, bitmap.height / height];
    const x0 = Math.max(0, Math.floor(window[0] * sx));
    const y0 = Math.max(0, Math.floor(window[1] * sy));
    const x1 = Math.min(bitmap.width, Math.ceil(window[2] * sx));
    const y1 = Math.min(bitmap.height, Math.ceil(window[3] * sy));
    if (x1 <= x0 || y1 <= y0) return;
    const place = [x0 / sx, y0 / sy, (x1 - x0) / sx, (y1 - y0) / sy];
    this.#toImage();
    context.fillStyle = "white"; // what a transparent image is shown on, here and to the model
    context.fillRect(...place);
    context.imageSmoothingEnabled = needed < PIXELS_FROM;
    context.drawImage(bitmap, x0, y0, x1 - x0, y1 - y0, ...place);
  }

  // Draws the outlines as they are by now. → whether they are those of this frame
  #paintLayer() {
    const drawn = this.instances.filter(({ isDrawn, rle }) => isDrawn && outlineOf(rle));
    const state = this.#stateOf(drawn);
    if (this.#layer) {
      const { bitmap, scale, x, y } = this.#layer;
      const ratio = devicePixelRatio;
      const larger = (this.view.scale * ratio) / scale;
      this.#context.setTransform(larger, 0, 0, larger,
        this.view.x * ratio - x * larger, this.view.y * ratio - y * larger);
      this.#context.imageSmoothingEnabled = larger !== 1;
      this.#context.drawImage(bitmap, 0, 0);
    }
    if (this.#layer?.state === state) return true;
    if (!this.#isDrawing) this.#drawLayer(drawn, state);
    return false;
  }

  #stateOf(drawn) {
    const { width, height } = this.#canvas;
    const { scale, x, y } = this.view;
    const { opacity, lit } = this;
    const shown = drawn.map(({ id, rle, color, isSelected }) =>
      `${id} ${rle.counts.length} ${color} ${isSelected}`);
    return JSON.stringify([width, height, scale, x, y, opacity, lit, shown]);
  }

  async #drawLayer(drawn, state) {
    this.#isDrawing = true;
    const bitmaps = this.#bitmaps;
    const { width, height } = this.#canvas;
    const ratio = devicePixelRatio;
    const [left, top] = [Math.round(width * MARGIN), Math.round(height * MARGIN)];
    const place = {
      scale: this.view.scale * ratio,
      x: this.view.x * ratio + left,
      y: this.view.y * ratio + top,
    };
    const isLit = ({ id, isSelected }) => isSelected || id === this.lit;
    // The best lies on top, and above all those that are pointed at or selected.
    const order = drawn.toReversed();
    const instances = [...order.filter((one) => !isLit(one)), ...order.filter(isLit)];
    const bitmap = await drawOutlines({
      ...place,
      width: width + 2 * left,
      height: height + 2 * top,
      ratio,
      opacity: this.opacity,
      isDimmed: instances.some(isLit),
      instances: instances.map((one) => ({ rle: one.rle, color: one.color, isLit: isLit(one) })),
    });
    this.#isDrawing = false;
    if (this.#bitmaps !== bitmaps) {
      bitmap.close();
    } else {
      this.#dropLayer();
      this.#layer = { bitmap, ...place, state };
    }
    this.draw();
  }

  #paintBadges() {
    const drawn = this.instances.filter(({ isDrawn, rle }) => isDrawn && outlineOf(rle));
    const badges = placeBadges(this.#context, drawn.map((instance) => ({
      ...instance,
      at: this.view.toScreen(outlineOf(instance.rle).anchor),
      isWanted: instance.id === this.lit || instance.isSelected,
    })), this.view.middle.map((half) => 2 * half));
    const context = this.#context;
    for (const { at, place } of badges) {
      if (place === at) continue;
      context.beginPath();
      context.moveTo(...at);
      context.lineTo(...place);
      this.#double(1);
      context.beginPath();
      context.arc(...at, 2.5, 0, 2 * Math.PI);
      context.fillStyle = "black";
      context.fill();
    }
    for (const badge of badges) this.#paintBadge(badge);
  }

  #paintBadge({ place: [x, y], half, number, color, id }) {
    const context = this.#context;
    context.globalAlpha = this.lit === null || this.lit === id ? 1 : 0.7;
    context.beginPath();
    context.roundRect(x - half, y - 9, 2 * half, 18, 8);
    context.fillStyle = "white";
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = `rgb(${color})`;
    context.stroke();
    context.fillStyle = "black";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(String(number), x, y + 1);
    context.globalAlpha = 1;
  }

  #paintMark(mark) {
    if (mark.box) this.#paintBox(mark.box, mark.label, false);
    else this.#paintPoint(mark.point, mark.label);
  }

  #paintPoint(point, label) {
    const context = this.#context;
    const [x, y] = this.view.toScreen(point);
    const radius = 9;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = label ? "#0a7a2f" : "#b00020";
    context.fill();
    this.#double(1.5);
    const arm = radius * 0.55;
    context.beginPath();
    context.moveTo(x - arm, y);
    context.lineTo(x + arm, y);
    if (label) {
      context.moveTo(x, y - arm);
      context.lineTo(x, y + arm);
    }
    context.strokeStyle = "white";
    context.lineWidth = 2.5;
    context.stroke();
  }

  #paintBox([left, top, right, bottom], label, dashed) {
    const context = this.#context;
    const [x0, y0] = this.view.toScreen([left, top]);
    const [x1, y1] = this.view.toScreen([right, bottom]);
    context.setLineDash([]);
    context.strokeStyle = "white";
    context.lineWidth = 4;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    if (dashed) context.setLineDash([6, 4]);
    context.strokeStyle = label === 0 ? "#b00020" : dashed ? "black" : "#0a7a2f";
    context.lineWidth = 2;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.setLineDash([]);
    if (label === 0) {
      context.beginPath();
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      context.stroke();
    }
  }

  #paintCursor(position) {
    const context = this.#context;
    const [x, y] = this.view.toScreen(position);
    const arm = 16;
    context.beginPath();
    context.moveTo(x - arm, y);
    context.lineTo(x + arm, y);
    context.moveTo(x, y - arm);
    context.lineTo(x, y + arm);
    this.#double(1.5);
  }

  // The current path as a dark line on a wider light one: seen on any image.
  #double(width) {
    this.#context.strokeStyle = "white";
    this.#context.lineWidth = width + 2.5;
    this.#context.stroke();
    this.#context.strokeStyle = "black";
    this.#context.lineWidth = width;
    this.#context.stroke();
  }
}
