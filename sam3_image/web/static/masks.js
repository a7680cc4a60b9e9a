// Run lengths → what is drawn of an instance: its tint, its outline, and where its number goes.

const TINT = 100; // of 255
const WHITE = 0xffffff00;
const HALO = 190; // a light line around the outline, so that it is seen on any picture

// COCO's compressed counts → lengths of the runs of 0, 1, 0, 1, … down the columns.
export function runLengths(counts) {
  const runs = [];
  for (let at = 0; at < counts.length; ) {
    let value = 0;
    let shift = 0;
    let code;
    do {
      code = counts.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

// The mask at `scale` canvas pixels to one of the picture:
// {x, y, width, height, inside, anchor}: a window of the canvas, one byte a pixel in rows, and a
// point [x, y] of the canvas that lies in the mask; null for an empty mask.
export function sample(rle, scale) {
  const [height, width] = rle.size;
  const spans = columnSpans(runLengths(rle.counts), height);
  if (spans.length === 0) return null;
  const [top, bottom] = rows(spans);
  const x0 = Math.floor(spans[0].column * scale);
  const y0 = Math.floor(top * scale);
  const w = Math.ceil((spans.at(-1).column + 1) * scale) - x0;
  const h = Math.ceil(bottom * scale) - y0;
  const inside = new Uint8Array(w * h);
  let first = 0;
  for (let x = 0; x < w; x++) {
    const column = Math.min(width - 1, Math.floor((x0 + x + 0.5) / scale));
    while (first < spans.length && spans[first].column < column) first++;
    for (let s = first; s < spans.length && spans[s].column === column; s++) {
      const from = Math.max(0, Math.ceil(spans[s].start * scale - 0.5) - y0);
      const to = Math.min(h, Math.ceil(spans[s].end * scale - 0.5) - y0);
      for (let y = from; y < to; y++) inside[y * w + x] = 1;
    }
  }
  const anchor = middle(spans).map((value) => value * scale);
  return { x: x0, y: y0, width: w, height: h, inside, anchor };
}

function rows(spans) {
  let [top, bottom] = [Infinity, 0];
  for (const { start, end } of spans) {
    top = Math.min(top, start);
    bottom = Math.max(bottom, end);
  }
  return [top, bottom];
}

// A point in the mask, far from its edge: the middle of a long column near its center.
function middle(spans) {
  const center = (spans[0].column + spans.at(-1).column) / 2;
  const half = center - spans[0].column + 1;
  const merit = ({ column, start, end }) => (end - start) * (1 - Math.abs(column - center) / half / 2);
  const best = spans.reduce((one, other) => (merit(other) > merit(one) ? other : one));
  return [best.column + 0.5, (best.start + best.end) / 2];
}

// The runs of 1, cut at the ends of columns, in order: [{column, start, end}] in rows.
function columnSpans(runs, height) {
  const spans = [];
  let at = 0;
  for (let index = 0; index < runs.length; index++) {
    const end = at + runs[index];
    if (index % 2) {
      while (at < end) {
        const column = Math.floor(at / height);
        const stop = Math.min(end, (column + 1) * height);
        spans.push({ column, start: at - column * height, end: stop - column * height });
        at = stop;
      }
    }
    at = end;
  }
  return spans;
}

// Whether the canvas pixel (x, y) is in the mask.
export function covers(mask, x, y) {
  if (!mask) return false;
  const [column, row] = [Math.floor(x) - mask.x, Math.floor(y) - mask.y];
  if (column < 0 || row < 0 || column >= mask.width || row >= mask.height) return false;
  return mask.inside[row * mask.width + column] === 1;
}

// A canvas with the mask in [r, g, b]: tinted, with a solid outline `line` pixels wide inside its
// edge and a light one outside, for which it is `line` pixels larger on every side.
export function paint(mask, [red, green, blue], line) {
  const width = mask.width + 2 * line;
  const height = mask.height + 2 * line;
  const padded = new Uint8Array(width * height);
  for (let y = 0; y < mask.height; y++) {
    const row = mask.inside.subarray(y * mask.width, (y + 1) * mask.width);
    padded.set(row, (y + line) * width + line);
  }
  const image = new ImageData(width, height);
  const pixels = new DataView(image.data.buffer); // one write a pixel, in whatever byte order
  const color = (red << 24) | (green << 16) | (blue << 8);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const around =
        (x >= line ? padded[at - line] : 0) +
        (x < width - line ? padded[at + line] : 0) +
        (y >= line ? padded[at - line * width] : 0) +
        (y < height - line ? padded[at + line * width] : 0);
      if (padded[at]) pixels.setInt32(4 * at, color | (around === 4 ? TINT : 255));
      else if (around) pixels.setInt32(4 * at, WHITE | HALO);
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return { canvas, x: mask.x - line, y: mask.y - line };
}
