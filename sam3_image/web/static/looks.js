// More than one look at a picture: tiles, finer edges, examples in another picture.

const find = (selector) => document.querySelector(selector);

// current() is the picture, ask() asks again, render() shows what changed.
export function watchLooks(question, { current, ask, render }) {
  find("#tile-size").addEventListener("change", ({ target }) => {
    question.tileSize = target.value === "" ? null : target.valueAsNumber;
    ask();
  });
  find("#refine").addEventListener("change", ({ target }) => {
    question.refine = target.checked;
    ask();
  });
  find("#reference-keep").addEventListener("click", () => {
    question.keepReference(current());
    render();
  });
  find("#reference-forget").addEventListener("click", () => {
    question.reference = null;
    ask();
  });
}

export function showLooks(question) {
  const kept = question.reference;
  find("#reference-keep").disabled = question.examples().length === 0;
  find("#reference-forget").hidden = !kept;
  find("#reference-name").textContent = kept
    ? `${kept.boxes.length} from ${kept.picture.name}`
    : "Drag boxes around examples first.";
}
