// A list that is one stop of the Tab key: arrows, Home and End move inside it.

const STEPS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };

export function rove(list, selector, isFirst = true) {
  const items = () => [...list.querySelectorAll(selector)];
  const choose = (all, chosen) => {
    for (const item of all) item.tabIndex = item === chosen ? 0 : -1;
  };
  const all = items();
  choose(all, all.find((item) => item.tabIndex === 0 && item.matches(":focus")) ?? all[0]);
  if (!isFirst) return;
  list.addEventListener("focusin", ({ target }) => {
    if (target.matches(selector)) choose(items(), target);
  });
  list.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(document.activeElement);
    const to = { Home: 0, End: all.length - 1 }[event.key] ?? at + STEPS[event.key];
    if (at < 0 || !all[to]) return;
    event.preventDefault();
    all[to].focus();
  });
}
