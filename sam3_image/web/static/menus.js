// Menus that open over the page: one at a time, until one clicks elsewhere or presses Escape.

const open = () => document.querySelector(".menu[open]");

export function watchMenus() {
  document.addEventListener("pointerdown", ({ target }) => {
    const menu = open();
    if (menu && !menu.contains(target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    const menu = open();
    if (event.key !== "Escape" || !menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
    event.preventDefault(); // it clears no marks, too
  });
}
