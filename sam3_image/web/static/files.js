// The files that can be saved: what predict() is asked for, and how they are named.

import * as api from "./api.js";
import { unzipTexts, zip } from "./zip.js";

const NAMES = {
  coco: "COCO",
  coco_polygon: "COCO, polygons",
  geojson: "GeoJSON",
  labelme: "LabelMe",
  polygon: "Polygons",
  rle: "RLE",
  voc: "Pascal VOC",
  yolo: "YOLO",
};

// about: what the server offers. → {kind: {label, output, isDataset}}, in the order of the menu.
export function kindsOf({ formats = [], label_maps: maps = [] }) {
  const one = { return_zip: false };
  const kinds = {
    masks: { label: "Masks (ZIP)", output: {} },
    overlay: { label: "Overlay", output: { ...one, mask_color: "distinct", show_labels: true } },
    cutout: { label: "Cut-out", output: { ...one, apply_mask: true } },
  };
  for (const form of formats) {
    kinds[form] = { label: NAMES[form] ?? form, output: { ...one, annotation_format: form } };
  }
  for (const map of maps) {
    kinds[`${map}-map`] = { label: `Label image, by ${map}`, output: { ...one, label_map: map } };
  }
  return kinds;
}

export function stem(name) {
  return name.replace(/\.[^.]*$/, "") || "image";
}

// The file of one image: {name, blob}; its name follows the image's, and differs by kind.
export async function fileOf({ image, instances }, concepts, kind, output, signal) {
  const { name, blob } = await api.file(image.id, instances, concepts, output, signal);
  return { name: `${stem(image.name)}-${kind}${/\.\w+$/.exec(name)[0]}`, blob };
}

// One ZIP of several images. parts: [{image, instances}]; step(done) is called after each.
export async function archive(parts, concepts, kind, output, { signal, step }) {
  const names = distinct(parts.map(({ image }) => image.name));
  const made = [];
  for (const [index, part] of parts.entries()) {
    const image = { ...part.image, name: names[index] };
    made.push(await fileOf({ ...part, image }, concepts, kind, output, signal));
    step(index + 1);
  }
  const images = parts.map(({ image }, index) => ({ name: `images/${names[index]}`, blob: image.file }));
  if (kind.startsWith("coco")) {
    const whole = await mergedCoco(made, names);
    return zip([...images, { name: "annotations.json", blob: json(whole) }]);
  }
  if (kind === "yolo") {
    const labels = await Promise.all(made.map(async ({ name, blob }, index) => {
      const text = name.endsWith(".zip") ? labelsIn(await unzipTexts(blob)) : await blob.text();
      return { name: `labels/${stem(names[index])}.txt`, blob: new Blob([text]) };
    }));
    return zip([...images, ...labels, { name: "data.yaml", blob: new Blob([yoloData(concepts)]) }]);
  }
  return zip(made);
}

// Files of equal stems would overwrite one another's labels.
function distinct(names) {
  const taken = new Set();
  return names.map((name) => {
    let free = name.replaceAll(/[/\\]/g, "_");
    for (let count = 2; taken.has(stem(free)); count++) {
      free = `${stem(name)}-${count}${/\.[^.]*$/.exec(name)?.[0] ?? ""}`;
    }
    taken.add(stem(free));
    return free;
  });
}

// COCO documents of one image each, whose category ids agree → one of all.
async function mergedCoco(files, names) {
  const whole = { images: [], categories: [], annotations: [] };
  const categories = new Map();
  for (const [index, { blob }] of files.entries()) {
    const { info, licenses, ...part } = JSON.parse(await blob.text());
    Object.assign(whole, { info, licenses });
    whole.images.push({ ...part.images[0], id: index + 1, file_name: names[index] });
    for (const category of part.categories) categories.set(category.id, category);
    for (const annotation of part.annotations) {
      whole.annotations.push({ ...annotation, id: whole.annotations.length + 1, image_id: index + 1 });
    }
  }
  whole.categories = [...categories.values()].sort((one, other) => one.id - other.id);
  return whole;
}

function json(value) {
  return new Blob([JSON.stringify(value)], { type: "application/json" });
}

// Of one image's dataset; its list of classes is that of this image alone.
function labelsIn(files) {
  return [...files].find(([name]) => name.startsWith("labels/"))?.[1] ?? "";
}

// Without a path, the folders are those beside this file.
function yoloData(concepts) {
  const names = concepts.map((name, index) => `  ${index}: ${JSON.stringify(name)}`);
  return ["train: images", "val: images", "names:", ...names, ""].join("\n");
}
