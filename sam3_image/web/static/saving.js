// The buttons that save files, and those that copy a question as a program.

import { archive, fileOf, kindsOf } from "./files.js";
import * as programs from "./programs.js";
import { plural } from "./sentences.js";

const find = (selector) => document.querySelector(selector);
const NOTE_SECONDS = 6;

let forget = null;

// current() → {image, instances, concepts} or null; all() → {parts, concepts, left} of all images;
// question() → what the programs ask, or null; opacity(); isDemo(); fail(error).
export function watchSaving({ current, all, question, opacity, isDemo, fail }) {
  const output = (kind) => {
    const { output: wanted } = find("#format").kinds[kind];
    return kind === "overlay" ? { ...wanted, mask_opacity: opacity() } : wanted;
  };

  async function save(kind) {
    const answer = current();
    if (!answer) return;
    await busy(async () => {
      const { name, blob } = await fileOf(answer, answer.concepts, kind, output(kind));
      download(name, blob);
      note(`Saved ${name}.`);
    });
  }

  async function saveAll(kind) {
    const { parts, concepts, left } = all();
    if (parts.length === 0) return;
    await busy(async () => {
      const step = (done) => note(`${done} of ${parts.length} …`, true);
      const blob = await archive(parts, concepts, kind, output(kind), { step });
      const name = `${parts.length}-images-${kind}.zip`;
      download(name, blob);
      const missing = left ? ` ${plural(left, "image")} not segmented yet: left out.` : "";
      note(`Saved ${name}.${missing}`);
    });
  }

  async function busy(work) {
    fail(null);
    try {
      await work();
    } catch (error) {
      note("");
      fail(error);
    }
  }

  const chosen = () => find("#format").value;
  find("#save-masks").addEventListener("click", () => save("masks"));
  find("#save").addEventListener("click", () => save(chosen()));
  find("#save-all").addEventListener("click", () => saveAll(chosen()));
  for (const kind of ["curl", "python", "command"]) {
    find(`#copy-${kind}`).addEventListener("click", () => {
      const asked = question();
      if (asked) copy(programs[kind](asked, isDemo()));
    });
  }
  find("#format").addEventListener("change", ({ target }) => {
    localStorage.setItem("sam3-format", target.value);
  });
  return { save, saveAll: () => saveAll(chosen()) };
}

export function offerFormats(about) {
  const menu = find("#format");
  menu.kinds = kindsOf(about);
  menu.replaceChildren(...Object.entries(menu.kinds).map(([kind, { label }]) => {
    const option = document.createElement("option");
    option.value = kind;
    option.textContent = label;
    return option;
  }));
  const last = localStorage.getItem("sam3-format");
  menu.value = last in menu.kinds ? last : about.formats?.[0] ?? "masks";
}

export function hideCopied() {
  find("#copied-row").hidden = true;
}

function download(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function note(text, isLasting = false) {
  clearTimeout(forget);
  find("#save-note").textContent = text;
  if (!isLasting) forget = setTimeout(() => note("", true), NOTE_SECONDS * 1000);
}

async function copy(text) {
  const copied = find("#copied");
  copied.value = text;
  try {
    await navigator.clipboard.writeText(text);
    hideCopied();
    note("Copied.");
  } catch {
    // Without https or localhost there is no clipboard.
    find("#copied-row").hidden = false;
    copied.select();
    note("Selected below: copy it with Ctrl+C.", true);
  }
}
