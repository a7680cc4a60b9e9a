// What the page says about an answer, in words for people.

const STAGES = {
  queue: "waiting for its turn",
  decode: "opening the image",
  encode: "looking at the image",
  find: "finding",
  pick: "picking",
  masks: "masks",
  write: "writing",
};

export function plural(count, one) {
  return `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
}

const LONGEST = 36; // letters of a question that is repeated

function short(text) {
  return text.length > LONGEST ? `${text.slice(0, LONGEST - 1).trimEnd()}…` : text;
}

// One sentence about an answer of which `count` instances pass the threshold.
export function summary({ task, instances, isChoice, ...answer }, count, threshold) {
  const asked = short(answer.asked);
  const all = instances.length;
  if (all === 0) return `Nothing found for ${asked}.`;
  if (task === "visual") return `${plural(all, isChoice ? "candidate" : "object")} from ${asked}.`;
  const above = threshold.toFixed(2);
  if (count === 0) return `Nothing above ${above}; the best is ${roundedDown(instances[0].score)}.`;
  const weaker = all > count ? `; ${all - count} weaker` : "";
  return `${plural(count, "instance")} of ${asked} above ${above}${weaker}.`;
}

// So that a threshold of what is shown is one that the score passes, or nearly.
function roundedDown(score) {
  return (Math.floor(score * 100) / 100).toFixed(2);
}

// "0.3 s", or what each stage took: [[name, time]].
export function total(metrics) {
  return seconds(Object.entries(metrics)
    .filter(([name]) => name.startsWith("timing.") && name !== "timing.total")
    .reduce((sum, [, value]) => sum + value, 0));
}

export function stages(metrics) {
  const rows = Object.entries(metrics)
    .filter(([name]) => name.startsWith("timing."))
    .map(([name, value]) => {
      const stage = name.slice("timing.".length);
      return [STAGES[stage] ?? stage.replaceAll("_", " "), seconds(value)];
    });
  if (metrics.tiles) rows.push(["tiles", String(metrics.tiles)]);
  if (metrics.encoder_cached) rows.push(["encoder", "skipped: it saw this image before"]);
  return rows;
}

function seconds(value) {
  if (value < 0.1) return value < 0.005 ? "0.00 s" : `${value.toFixed(2)} s`;
  return `${value.toFixed(1)} s`;
}
