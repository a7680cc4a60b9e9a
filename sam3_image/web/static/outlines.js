// The outlines of the masks of one image, traced and drawn by a worker.

const worker = new Worker(new URL("outline-worker.js", import.meta.url), { type: "module" });
const known = new Map(); // run lengths → {key, outline}
const waiting = new Map();
let messages = 0;
let keys = 0;

worker.addEventListener("message", ({ data: { number, result } }) => {
  waiting.get(number)(result);
  waiting.delete(number);
});

function told(kind, given) {
  const number = ++messages;
  const answer = new Promise((done) => waiting.set(number, done));
  worker.postMessage({ number, kind, ...given });
  return answer;
}

// Traces what is not traced yet; afterwards `outlineOf` knows all of them.
export async function traceAll(rles) {
  const unknown = rles.filter((rle) => !known.has(rle)).map((rle) => [++keys, rle]);
  if (unknown.length === 0) return;
  const outlines = await told("trace", { masks: unknown });
  unknown.forEach(([key, rle], index) => known.set(rle, { key, outline: outlines[index] }));
}

// Of a mask: {ends, height, box: [x0, y0, x1, y1], anchor: [x, y] inside it}; null for an empty one,
// and before it is traced.
export function outlineOf(rle) {
  return known.get(rle)?.outline ?? null;
}

// Another image is shown.
export function forgetOutlines() {
  known.clear();
  told("forget");
}

// As the worker's `draw`, with `rle` for `key`. → an ImageBitmap
export function drawOutlines({ instances, ...given }) {
  const keyed = instances.map(({ rle, color, isLit }) => ({ key: known.get(rle).key, color, isLit }));
  return told("draw", { ...given, instances: keyed });
}
