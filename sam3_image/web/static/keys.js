// Keys that work anywhere on the page but in text, and the list of them.

const dialog = document.querySelector("#keys");
const allowed = document.querySelector("#keys-on");

export function openKeys() {
  dialog.showModal();
}

// actions: a function for each key, by its name; `undo` is called for Ctrl+Z and Cmd+Z.
export function watchShortcuts(actions, undo) {
  document.querySelector("#keys-open").addEventListener("click", openKeys);
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || dialog.open || event.target.matches("textarea")) return;
    if ((event.ctrlKey || event.metaKey) && event.key === "z") {
      undo();
    } else if (!event.ctrlKey && !event.metaKey && !event.altKey && actions[event.key]) {
      // Speech input types words: whoever uses it must be able to turn single letters off.
      if (event.key.length === 1 && !allowed.checked) return;
      actions[event.key]();
    } else {
      return;
    }
    event.preventDefault();
  });
}
