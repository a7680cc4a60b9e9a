// The ways in which a picture comes to the page: chosen, dropped, pasted.

// take(file, name), refuse(sentence) are called back.
export function watchIntake(stage, chooser, { take, refuse }) {
  chooser.addEventListener("change", () => {
    const [file] = chooser.files;
    if (file) take(file, file.name);
    chooser.value = ""; // so that the same file can be chosen again
  });

  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    stage.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) stage.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    if (file) take(file, file.name);
    else refuse("Only files can be dropped here: save the picture first, or copy and paste it.");
  });

  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file) return; // text, which goes where the caret is
    event.preventDefault();
    take(file, file.name || "pasted.png");
  });
}
