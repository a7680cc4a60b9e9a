// Keys that work anywhere on the page but in text, and the list of them.

const dialog = document.querySelector("#keys");
const allowed = document.querySelector("#keys-on");

export function openKeys() {
  dialog.showModal();
}

// actions: a function for each key, by its name. controls: the same for keys with Ctrl or Cmd;
// they work in text, too, where only Ctrl+Z is left to the text.
export function watchShortcuts(actions, controls) {
  document.querySelector("#keys-open").addEventListener("click", openKeys);
  document.addEventListener("keydown", (event) => {
    const inText = event.target.matches("textarea, [type=number]");
    const { key } = event;
    if (event.defaultPrevented || dialog.open || event.altKey) return;
    if (event.ctrlKey || event.metaKey) {
      if (!controls[key] || (inText && key === "z")) return;
      controls[key]();
    } else {
      // Speech input types words: whoever uses it must be able to turn single letters off.
      if (!actions[key] || inText || (key.length === 1 && !allowed.checked)) return;
      actions[key]();
    }
    event.preventDefault();
  });
}
