// Where the numbers of instances go, so that they do not lie on one another.

const MANY = 60; // more than this in view: only those that are pointed at or selected have one
const HEIGHT = 22;
const STEPS = 24; // places that are tried around an instance, on a spiral
const GROWTH = 7; // pixels by which the spiral widens from place to place

// wanted: {at: [x, y] on the canvas, number, isWanted, …}, in the order in which they choose.
// → those that are shown, with `place` (equal to `at`, or moved) and `half`, half their width.
export function placeBadges(context, wanted, [width, height]) {
  context.font = "700 13px system-ui, sans-serif";
  const inView = wanted.filter(({ at: [x, y] }) => x > 0 && y > 0 && x < width && y < height);
  const few = inView.length > MANY ? inView.filter(({ isWanted }) => isWanted) : inView;
  const placed = [];
  for (const badge of few) {
    const half = context.measureText(String(badge.number)).width / 2 + 5;
    const place = free(badge.at, half, placed) ?? (badge.isWanted ? badge.at : null);
    if (place) placed.push({ ...badge, place, half });
  }
  return placed;
}

function free(at, half, placed) {
  const fits = ([x, y]) => placed.every(({ place, half: other }) =>
    Math.abs(place[0] - x) > half + other + 3 || Math.abs(place[1] - y) > HEIGHT);
  if (fits(at)) return at;
  for (let step = 1; step <= STEPS; step++) {
    const angle = step * 2.4; // the golden angle: no direction is tried twice
    const radius = 16 + Math.sqrt(step) * GROWTH * 1.8;
    const place = [at[0] + radius * Math.cos(angle), at[1] + radius * Math.sin(angle)];
    if (fits(place)) return place;
  }
  return null;
}
