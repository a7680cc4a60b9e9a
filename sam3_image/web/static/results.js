// The answer beside the picture: status, threshold, list, times.

const list = document.querySelector("#instances");
const status = document.querySelector("#status");
const threshold = document.querySelector("#threshold");
const timing = document.querySelector("#timing");

export function say(text) {
  if (status.textContent !== text) status.textContent = text;
}

export function thresholdValue() {
  return Number(threshold.value);
}

export function showThreshold() {
  document.querySelector("#threshold-value").textContent = thresholdValue().toFixed(2);
}

// How many instances, best first, have a score above the threshold: the same strict comparison
// of 32-bit numbers as the server's.
export function countAbove(scores, value) {
  const cut = Math.fround(value);
  const below = scores.findIndex((score) => !(score > cut));
  return below < 0 ? scores.length : below;
}

// The entries for all instances of an answer; `showEntries` puts some of them into the page.
export function entries(instances, scores, palette, { hover, choose }) {
  return instances.map(({ concept, area }, index) => {
    const item = document.createElement("li");
    const button = item.appendChild(document.createElement("button"));
    button.type = "button";
    button.dataset.test = "instance";
    button.dataset.score = scores[index];
    button.title = `${area.toLocaleString("en")} pixels; mask_${String(index).padStart(3, "0")}.png`;
    button.setAttribute("aria-pressed", "false");
    const number = part(button, "number", index + 1);
    number.style.borderColor = `rgb(${palette[index % palette.length]})`;
    part(button, "name", concept);
    part(button, "score", scores[index].toFixed(3));
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => hover(index));
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => hover(null));
    button.addEventListener("click", () => choose(index));
    return item;
  });
}

function part(button, name, text) {
  const span = button.appendChild(document.createElement("span"));
  span.className = name;
  span.textContent = text;
  return span;
}

// The first `count` entries; those that stay are not touched, so they keep the focus.
export function showEntries(all, count) {
  while (list.children.length > count) list.lastChild.remove();
  for (let index = list.children.length; index < count; index++) list.append(all[index]);
}

export function clearEntries() {
  list.replaceChildren();
}

export function mark(lit, chosen) {
  [...list.children].forEach(({ firstChild: button }, index) => {
    button.classList.toggle("lit", index === lit);
    button.setAttribute("aria-pressed", String(index === chosen));
  });
}

// Scrolls the list alone: the page must not move under a pointer that is over the picture.
export function reveal(index) {
  const { offsetTop, offsetHeight } = list.children[index];
  const lowest = offsetTop + offsetHeight - list.clientHeight;
  list.scrollTop = Math.min(offsetTop, Math.max(lowest, list.scrollTop));
}

export function showTiming(metrics) {
  const stages = Object.entries(metrics)
    .filter(([name]) => name.startsWith("timing."))
    .map(([name, seconds]) => `${name.slice("timing.".length)} ${seconds.toFixed(3)} s`);
  if (metrics.tiles) stages.push(`${metrics.tiles} tiles`);
  if (metrics.encoder_cached) stages.push("encoder skipped: this picture was encoded before");
  timing.textContent = stages.join(" · ");
  timing.hidden = false;
}

export function hideTiming() {
  timing.hidden = true;
}

// One sentence about an answer of which `count` instances are shown.
export function summary({ task, asked, scores, candidates }, count, value) {
  const all = scores.length;
  if (all === 0) return `Nothing found for ${asked}.`;
  if (task === "visual") {
    return `${plural(all, candidates ? "candidate" : "object")} from ${asked}.`;
  }
  if (count === 0) {
    return `Nothing above ${value.toFixed(2)}; the best score is ${scores[0].toFixed(3)}.`;
  }
  const weaker = all > count ? `; ${all - count} weaker` : "";
  return `${plural(count, "instance")} of ${asked} above ${value.toFixed(2)}${weaker}.`;
}

function plural(count, one) {
  return `${count} ${one}${count === 1 ? "" : "s"}`;
}
