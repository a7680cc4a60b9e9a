// A question as a program that asks it again: curl, Python, a command.

import { hasToken, SERVER } from "./api.js";

// question: {name, reference (a name or null), inputs}; the programs open files of these names.
export function curl({ name, reference, inputs: { reference_image: _, ...inputs } }) {
  const lines = [
    `curl --fail-with-body ${SERVER}api/file`,
    hasToken() && '-H "Authorization: Bearer $SAM3_TOKEN"',
    formFile("image", name),
    reference && formFile("reference_image", reference),
    `--form-string ${quoted(`inputs=${JSON.stringify(inputs)}`)}`,
    "-o masks.zip",
  ];
  return lines.filter(Boolean).join(" \\\n  ") + "\n";
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
    `${about.demo ? "SAM3_WEIGHTS=demo " : ""}${about.predict} ${quoted(pathOf(name))}`,
    ...options.map(([option, value]) => `--${option.replaceAll("_", "-")}${argument(option, value)}`),
    "--output masks.zip",
  ];
  return lines.join(" \\\n  ") + "\n";
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
  const rest = Object.entries(options).map(([option, value]) => `${option}=${literal(value)}`);
  const method = { visual: "pick", everything: "everything" }[task] ?? "find";
  return [
    "import sam3_image\n",
    // Without an argument it loads what the command does: SAM3_WEIGHTS, or what was downloaded.
    `sam = sam3_image.load(${about.demo ? literal("demo") : ""})`,
    `instances = sam.${method}(${[...first, ...rest].join(", ")})`,
    "print(instances)",
    'instances.save("masks.zip")\n',
  ].join("\n");
}

// A value of JSON as Python writes it.
function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return JSON.stringify(value);
}
