// Files of an answer, and the same request as curl and as Python.

import * as api from "./api.js";

// The output inputs of each file.
export const FILES = {
  zip: {},
  overlay: { return_zip: false, mask_color: "distinct", show_labels: true },
  cutout: { return_zip: false, apply_mask: true },
  coco: { return_zip: false, annotation_format: "coco" },
  rle: { return_zip: false, annotation_format: "rle" },
};

export async function download(pictures, inputs, kind) {
  const { name, blob } = await api.file(pictures, { ...inputs, ...FILES[kind] });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${stem(pictures[0].name)}-${name}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  return link.download;
}

function stem(name) {
  return name.replace(/\.[^.]*$/, "") || "picture";
}

// pictures: as for `api.segment`; the programs open files of their names.
export function curl([picture, reference], { reference_image: _, ...inputs }) {
  const lines = [
    `curl --fail-with-body ${location.origin}/api/file`,
    api.authorized && '-H "Authorization: Bearer $SAM3_TOKEN"',
    formFile("image", picture),
    reference && formFile("reference_image", reference),
    `--form-string ${quoted(`inputs=${JSON.stringify(inputs)}`)}`,
    "-o masks.zip",
  ];
  return lines.filter(Boolean).join(" \\\n  ") + "\n";
}

function formFile(part, { name }) {
  return `-F ${quoted(`${part}=@"${name.replace(/[\\"]/g, "\\$&")}"`)}`;
}

// For a POSIX shell.
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

export function python([picture, reference], { task, prompts, ...options }, isDemo) {
  if (reference) options.reference_image = reference.name;
  const first = [literal(picture.name)];
  if (task !== "visual") first.push(literal(prompts ?? null));
  const rest = Object.entries(options).map(([name, value]) => `${name}=${literal(value)}`);
  const call = `${task === "visual" ? "pick" : "find"}(${[...first, ...rest].join(", ")})`;
  return [
    "import sam3_image\n",
    // Without an argument it loads what the scripts do: SAM3_WEIGHTS, or weights/sam3.
    `sam = sam3_image.load(${isDemo ? literal("weights/demo") : ""})`,
    `instances = sam.${call}`,
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
