// Which part of the image the canvas shows, and how large. Lengths are CSS pixels.

const LARGEST = 64; // screen pixels to one of the image
const LARGEST_FIT = 8; // a small image is not blown up further on its own
const MARGIN = 8;

export class View {
  scale = 1;
  x = 0; // where the image's top left corner lies on the canvas
  y = 0;
  #width = 1; // of the canvas
  #height = 1;
  #image = [1, 1];
  #isFitted = true;

  show(width, height) {
    this.#image = [width, height];
    this.fit();
  }

  resize(width, height) {
    const [dx, dy] = [(width - this.#width) / 2, (height - this.#height) / 2];
    [this.#width, this.#height] = [width, height];
    if (this.#isFitted) this.fit();
    else this.pan(dx, dy);
  }

  get fitted() {
    const [width, height] = this.#image;
    const [w, h] = [this.#width - 2 * MARGIN, this.#height - 2 * MARGIN];
    return Math.max(1e-3, Math.min(w / width, h / height, LARGEST_FIT));
  }

  get middle() {
    return [this.#width / 2, this.#height / 2];
  }

  fit() {
    this.#isFitted = true;
    this.#set(this.fitted, this.middle, this.#image.map((side) => side / 2));
  }

  // One pixel of the image is one pixel of the screen.
  actual(at = this.middle) {
    this.zoom(1 / devicePixelRatio / this.scale, at);
  }

  // Zooms by a factor around a point of the canvas, which moves to another: two fingers do both.
  zoom(factor, at = this.middle, to = at) {
    const fixed = this.toImage(at);
    const smallest = Math.min(this.fitted, 1 / devicePixelRatio);
    const scale = Math.min(LARGEST, Math.max(smallest, this.scale * factor));
    this.#isFitted = Math.abs(scale / this.fitted - 1) < 1e-6;
    this.#set(scale, to, fixed);
  }

  pan(dx, dy) {
    this.#isFitted &&= dx === 0 && dy === 0;
    const [cx, cy] = this.middle;
    this.#set(this.scale, [cx + dx, cy + dy], this.toImage([cx, cy]));
  }

  // Pans, if need be, until a point of the image is on the canvas.
  reveal(point) {
    const [x, y] = this.toScreen(point);
    const room = Math.min(40, this.#width / 4, this.#height / 4);
    const inside = (value, size) => Math.min(size - room, Math.max(room, value)) - value;
    const [dx, dy] = [inside(x, this.#width), inside(y, this.#height)];
    if (dx || dy) this.pan(dx, dy);
  }

  // Puts a point of the image on one of the canvas; the image never leaves the canvas.
  #set(scale, [cx, cy], [ix, iy]) {
    this.scale = scale;
    const place = (value, side, room) => {
      const size = side * scale;
      if (size <= room) return (room - size) / 2;
      return Math.min(room / 2, Math.max(room / 2 - size, value));
    };
    this.x = place(cx - ix * scale, this.#image[0], this.#width);
    this.y = place(cy - iy * scale, this.#image[1], this.#height);
  }

  toImage([cx, cy]) {
    return [(cx - this.x) / this.scale, (cy - this.y) / this.scale];
  }

  toScreen([x, y]) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }

  // The part of the image on the canvas: [x0, y0, x1, y1].
  get window() {
    return [...this.toImage([0, 0]), ...this.toImage([this.#width, this.#height])];
  }
}
