// The buttons that save an answer, and those that copy it as a program.

import { say } from "./results.js";
import * as takeaway from "./takeaway.js";

const find = (selector) => document.querySelector(selector);

// answered() → {pictures, inputs} of the answer that is shown, or null; isDemo() → whether the
// weights are the demo's. → save(kind)
export function watchSaving({ answered, isDemo, refuse }) {
  async function save(kind) {
    const answer = answered();
    if (!answer) return;
    refuse(null);
    try {
      say(`Saved ${await takeaway.download(answer.pictures, answer.inputs, kind)}.`);
    } catch (error) {
      refuse(error.message);
    }
  }

  for (const button of document.querySelectorAll("[data-file]")) {
    button.addEventListener("click", () => save(button.dataset.file));
  }
  find("#copy-curl").addEventListener("click", () => {
    const { pictures, inputs } = answered();
    copy(takeaway.curl(pictures, inputs));
  });
  find("#copy-python").addEventListener("click", () => {
    const { pictures, inputs } = answered();
    copy(takeaway.python(pictures, inputs, isDemo()));
  });
  return save;
}

async function copy(text) {
  find("#copied-row").hidden = false;
  find("#copied").value = text;
  try {
    await navigator.clipboard.writeText(text);
    say("Copied to the clipboard.");
  } catch {
    // Without https or localhost there is no clipboard.
    find("#copied").select();
    say("The text is selected: copy it with Ctrl+C.");
  }
}
