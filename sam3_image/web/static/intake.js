// The ways in which images come to the page: chosen, dropped, pasted.

const find = (selector) => document.querySelector(selector);

// take(files), refuse(title, sentence) are called back; files: [{file, name}]
export function watchIntake({ take, refuse }) {
  const chooser = find("#file");
  const all = (files) => [...files].map((file) => ({ file, name: file.name || "pasted.png" }));

  find("#choose").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    const files = all(chooser.files);
    chooser.value = ""; // so that the same file can be chosen again
    if (files.length) take(files);
  });

  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    find("#stage").classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) find("#stage").classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    find("#stage").classList.remove("dropping");
    const files = all(event.dataTransfer.files);
    if (files.length) take(files);
    else {
      refuse("Only files can be dropped here.",
        "Save the image first, or copy it and paste it here.");
    }
  });

  document.addEventListener("paste", (event) => {
    const files = all(event.clipboardData.files);
    if (files.length === 0) return; // text, which goes where the caret is
    event.preventDefault();
    take(files);
  });
}
