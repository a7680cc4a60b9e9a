// The images of the session as a strip of thumbnails.

import { rove } from "./roving.js";

const find = (selector) => document.querySelector(selector);
const list = find("#thumbnails");
const shown = new Map(); // key of an image → its entry

// open(key) is called back.
export function watchStrip({ open }) {
  list.addEventListener("click", ({ target }) => {
    const entry = target.closest("li");
    if (entry) open(Number(entry.dataset.key));
  });
  rove(list, "[data-test=thumbnail]");
}

// images: [{key, name, thumbnail (a URL or null), count (null before an answer), isFailed}]
export function showStrip(images, currentKey) {
  find("#strip").hidden = images.length < 2;
  const keys = new Set(images.map(({ key }) => key));
  for (const [key, entry] of shown) {
    if (keys.has(key)) continue;
    entry.remove();
    shown.delete(key);
  }
  images.forEach((image, index) => {
    const entry = shown.get(image.key) ?? newEntry(image.key);
    if (list.children[index] !== entry) list.insertBefore(entry, list.children[index] ?? null);
    fill(entry, image, index, image.key === currentKey);
  });
  rove(list, "[data-test=thumbnail]", false);
}

function newEntry(key) {
  const entry = document.createElement("li");
  entry.dataset.key = key;
  const button = entry.appendChild(document.createElement("button"));
  button.type = "button";
  button.dataset.test = "thumbnail";
  button.appendChild(document.createElement("img")).alt = "";
  button.appendChild(document.createElement("span"));
  shown.set(key, entry);
  return entry;
}

function fill(entry, { name, thumbnail, count, isFailed }, index, isCurrent) {
  const [button] = entry.children;
  const [picture, badge] = button.children;
  if (thumbnail && picture.src !== thumbnail) picture.src = thumbnail;
  picture.hidden = !thumbnail;
  badge.textContent = isFailed ? "!" : count ?? "";
  badge.hidden = badge.textContent === "";
  badge.className = isFailed ? "failed" : "";
  const said = isFailed ? ", failed" : count === null ? "" : `, ${count} kept`;
  button.setAttribute("aria-label", `${index + 1}: ${name}${said}`);
  button.title = name;
  if (isCurrent === (button.getAttribute("aria-current") === "true")) return;
  button.setAttribute("aria-current", String(isCurrent));
  if (isCurrent) list.scrollLeft = entry.offsetLeft - (list.clientWidth - entry.offsetWidth) / 2;
}
