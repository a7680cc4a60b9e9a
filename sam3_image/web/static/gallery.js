// The images of the session: which there are, and which is looked at.

import { app, keepPage } from "./app.js";
import { askWhatWaited, cancelAll, newest, sent, stop } from "./requests.js";
import { bitmapsOf, release, thumbnailOf } from "./image.js";
import { History } from "./labels.js";
import { forgetOutlines } from "./outlines.js";
import { fail, render, show, stage } from "./page.js";
import * as session from "./session.js";

let lastKey = 0;
let thumbnails = Promise.resolve(); // made one after the other
let cleared = 0;

function newImage({ name, file, key = ++lastKey, id = null, range = null, width = null,
  height = null, state }) {
  lastKey = Math.max(lastKey, key);
  return {
    key, name, file, id, range, width, height, bitmaps: null, thumbnail: null, failure: null,
    history: new History(state),
  };
}

// files: [{file, name}]. The first of them is looked at.
export async function add(files) {
  const images = files.map(newImage);
  app.images.push(...images);
  for (const image of images) {
    session.keepImage(image);
    if (image !== images[0]) queueThumbnail(image);
  }
  await open(images[0]);
  if (app.current === images[0]) focusWords();
}

// What the last session left, if anything. page: what `keepPage` kept.
export function restore(images, page) {
  app.images = images.map(newImage);
  for (const image of app.images) queueThumbnail(image);
  const current = app.images.find(({ key }) => key === page?.current) ?? app.images[0];
  return current ? open(current) : null;
}

function queueThumbnail(image) {
  const round = cleared;
  thumbnails = thumbnails.then(async () => {
    if (image.thumbnail || round !== cleared) return;
    const bitmap = await createImageBitmap(image.file, { imageOrientation: "from-image" })
      .catch(() => null);
    if (!bitmap) return; // it gets one when it is opened
    await setThumbnail(image, [{ bitmap }]);
    bitmap.close();
    render();
  });
}

async function setThumbnail(image, bitmaps) {
  const { bitmap } = bitmaps[0];
  const size = { width: image.width ?? bitmap.width, height: image.height ?? bitmap.height };
  image.thumbnail = URL.createObjectURL(await thumbnailOf(size, bitmaps));
}

// Looks at an image.
export function open(image) {
  close();
  app.current = image;
  app.selected.clear();
  app.hovered = null;
  render();
  return newest("Opening the image…", async (signal) => {
    await sent(image, signal);
    const bitmaps = await bitmapsOf(image, signal);
    if (signal.aborted) {
      release(bitmaps);
      return;
    }
    image.bitmaps = bitmaps;
    image.failure = null;
    render(); // the canvas has a size only where it is shown
    forgetOutlines();
    stage.show(image, bitmaps);
    await show();
    if (!image.thumbnail) await setThumbnail(image, bitmaps);
    keepPage();
    render();
    askWhatWaited();
  }, (error) => refused(image, error));
}

// What is typed next; but on a phone this would bring up the keyboard.
function focusWords() {
  const isFree = document.activeElement === document.body || document.activeElement?.id === "example";
  if (isFree && matchMedia("(pointer: fine)").matches) {
    document.querySelector("#concepts").focus({ preventScroll: true });
  }
}

// A file that is no image leaves the session again; after any other failure it stays.
function refused(image, error) {
  image.failure = error;
  if (error.title && app.images.length > 1) error.title = `${image.name}: ${error.title}`;
  if (error.status !== 413 && error.status !== 422) return;
  if (app.question.valueRange) return; // which may be what is wrong
  take(image);
  const last = app.images.at(-1);
  if (last) open(last);
}

function close() {
  const { current } = app;
  stop();
  if (!current?.bitmaps) return;
  stage.hide();
  release(current.bitmaps);
  current.bitmaps = null;
}

// Takes an image out of the session.
function take(image) {
  if (image === app.current) {
    close();
    app.current = null;
  }
  app.images = app.images.filter((other) => other !== image);
  if (image.thumbnail) URL.revokeObjectURL(image.thumbnail);
  session.forget(image.key);
}

// Removes the present image, and looks at its neighbor.
export function remove() {
  const at = app.images.indexOf(app.current);
  if (at < 0) return;
  take(app.current);
  const next = app.images[Math.min(at, app.images.length - 1)];
  if (next) open(next);
  else render();
}

export function clear() {
  cleared++;
  cancelAll();
  for (const image of [...app.images]) take(image);
  session.clear();
  app.question.words = document.querySelector("#concepts").value = "";
  app.question.reference = null;
  fail(null);
  render();
}

export function openKey(key) {
  const image = app.images.find((one) => one.key === key);
  if (image && image !== app.current) open(image);
}

export function step(by) {
  const image = app.images[app.images.indexOf(app.current) + by];
  if (image) open(image);
}
