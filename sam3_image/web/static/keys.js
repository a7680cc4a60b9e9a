// Keys that work anywhere on the page but in text, and the list of them.

const dialog = document.querySelector("#keys");
const allowed = document.querySelector("#keys-on");

export function openKeys() {
  dialog.showModal();
}

// actions: a function for each key, by its name. controls: the same for keys with Ctrl or Cmd
// ("Shift+" before those with Shift); of these, text keeps the ones in `ofText`.
export function watchShortcuts(actions, controls, ofText) {
  document.querySelector("#keys-open").addEventListener("click", openKeys);
  document.addEventListener("keydown", (event) => {
    const inText = event.target.matches("textarea, input:is([type=number], [type=text], [type=password])");
    const { key } = event;
    if (event.defaultPrevented || document.querySelector("dialog[open]") || event.altKey) return;
    if (event.ctrlKey || event.metaKey) {
      const name = (event.shiftKey ? "Shift+" : "") + (key.length === 1 ? key.toLowerCase() : key);
      if (!controls[name] || (inText && ofText.includes(name))) return;
      controls[name]();
    } else {
      // Speech input types words: a person who uses it must be able to turn single letters off.
      if (!actions[key] || inText || (key.length === 1 && !allowed.checked)) return;
      actions[key]();
    }
    event.preventDefault();
  });
}
