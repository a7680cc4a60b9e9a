// A question as a program that asks it again: curl, Python, a command.

import { hasToken, SERVER } from "./api.js";

// question: {name, reference (a name or null), inputs}; the programs open files of these names.
export function curl({ name, reference, inputs: { reference_image: _, ...inputs } }) {
  const lines = [
    atOnce(inputs),
    `curl --fail-with-body ${SERVER}api/file`,
    hasToken() && '-H "Authorization: Bearer $SAM3_TOKEN"',
    formFile("image", name),
    reference && formFile("reference_image", reference),
    `--form-string ${quoted(`inputs=${JSON.stringify(inputs)}`)}`,
    "-o masks.zip",
  ];
  return joined(lines);
}

function joined([comment, ...lines]) {
  return comment + lines.filter(Boolean).join(" \\\n  ") + "\n";
}

// The page starts each click from the answer before it, which only the Python program can repeat.
function atOnce({ points }) {
  return points?.length > 1 ? "# Asks all points at once; the page went on from click to click.\n" : "";
}

function formFile(part, name) {
  return `-F ${quoted(`${part}=@"${name.replace(/[\\"]/g, "\\$&")}"`)}`;
}

// For a POSIX shell.
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

export function command({ name, reference, inputs: { reference_image: _, ...inputs } }, about) {
  const options = Object.entries(reference ? { ...inputs, reference_image: reference } : inputs);
  const lines = [
    atOnce(inputs),
    `${about.demo ? "SAM3_WEIGHTS=demo " : ""}${about.predict} ${quoted(pathOf(name))}`,
    ...options.map(([option, value]) => `--${option.replaceAll("_", "-")}${argument(option, value)}`),
    "--output masks.zip",
  ];
  return joined(lines);
}

// A name that begins with a dash is no option.
function pathOf(name) {
  return name.startsWith("-") ? `./${name}` : name;
}

function argument(option, value) {
  if (value === true) return "";
  if (option === "prompts") return ` ${value.map(quoted).join(" ")}`;
  return ` ${quoted(typeof value === "string" ? value : JSON.stringify(value))}`;
}

export function python({ name, reference, inputs: { task, prompts, ...options } }, about) {
  if (reference) options.reference_image = reference;
  const first = [literal(name)];
  if (!task) first.push(literal(prompts ?? null));
  const method = { visual: "pick", everything: "everything" }[task] ?? "find";
  const calls = clicks(options).map((given, index) => {
    const rest = Object.entries(given).map(([option, value]) => `${option}=${literal(value)}`);
    if (index) rest.push("mask=instances[0]");
    return `instances = sam.${method}(${[...first, ...rest].join(", ")})`;
  });
  return [
    "import sam3_image\n",
    // Without an argument it loads what the command does: SAM3_WEIGHTS, or what was downloaded.
    `sam = sam3_image.load(${about.demo ? literal("demo") : ""})`,
    ...calls,
    "print(instances)",
    'instances.save("masks.zip")\n',
  ].join("\n");
}

// The options of one call after the other: each click starts from the answer to those before it.
function clicks({ mask_image: base, ...options }) {
  const { points = [], point_labels: labels = [], boxes } = options;
  if (points.length < 2 || boxes) return [base ? { ...options, mask_image: base } : options];
  return points.map((_, index) => {
    const own = { points: points.slice(0, index + 1), point_labels: labels.slice(0, index + 1) };
    return { ...options, ...own, ...(base && index === 0 ? { mask_image: base } : {}) };
  });
}

// A value of JSON as Python writes it.
function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return JSON.stringify(value);
}
