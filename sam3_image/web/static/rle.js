// COCO's compressed run lengths of one mask, read without unpacking it.

// → Uint32Array of the positions, down the columns, at which runs of 0, 1, 0, 1, … end.
export function runEnds(counts) {
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
  let end = 0;
  return Uint32Array.from(runs, (run) => (end += run));
}

// Whether pixel (x, y) of an image of that height is in the mask.
export function covers(ends, height, x, y) {
  const position = x * height + y;
  let low = 0;
  let high = ends.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ends[middle] > position) high = middle;
    else low = middle + 1;
  }
  return low % 2 === 1;
}

// The runs of 1, cut at the ends of columns, in order: [column, first row, row after the last] of
// each, one after the other.
export function columnSpans(ends, height) {
  const spans = [];
  for (let index = 1; index < ends.length; index += 2) {
    for (let at = ends[index - 1]; at < ends[index]; ) {
      const column = Math.floor(at / height);
      const stop = Math.min(ends[index], (column + 1) * height);
      spans.push(column, at - column * height, stop - column * height);
      at = stop;
    }
  }
  return spans;
}
