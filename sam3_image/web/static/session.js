// What survives a reload: the images and what was done with them, kept by this browser (IndexedDB).

const MAX_IMAGES = 300;
const MAX_BYTES = 1_000_000_000;
const WRITE_AFTER = 50; // milliseconds; steps that follow one another are written once

const FILES = "files"; // {key, name, file, id, range, width, height}
const STATES = "states"; // {key, state}
const PAGE = "page"; // {key: 0, words, mode, threshold, …}

let database = null; // a promise of it
let report = () => {};
let kept = new Map(); // key → bytes
const waiting = new Map(); // key → state
let timer = null;

function opened() {
  database ??= new Promise((done, failed) => {
    const opening = indexedDB.open("sam3-image", 1);
    opening.onupgradeneeded = () => {
      for (const name of [FILES, STATES, PAGE]) {
        opening.result.createObjectStore(name, { keyPath: "key" });
      }
    };
    opening.onsuccess = () => done(opening.result);
    opening.onerror = () => failed(opening.error);
  });
  return database;
}

// Runs work(stores…) in one transaction, and waits until it is written.
async function within(names, mode, work) {
  const transaction = (await opened()).transaction(names, mode);
  const result = work(...names.map((name) => transaction.objectStore(name)));
  await new Promise((done, failed) => {
    transaction.oncomplete = done;
    transaction.onabort = transaction.onerror = () => failed(transaction.error);
  });
  return result;
}

async function quietly(work) {
  try {
    return await work();
  } catch (error) {
    const isFull = error?.name === "QuotaExceededError";
    report(isFull ? "This browser has no more room: later images do not survive a reload."
      : "This browser keeps nothing here: a reload forgets the images.");
    return null;
  }
}

// tell(sentence) is called back where something is not kept. → {images, page} of the last session
export function restore(tell) {
  report = tell;
  return quietly(async () => {
    const [files, states, pages] = await within([FILES, STATES, PAGE], "readonly",
      (...stores) => stores.map((store) => store.getAll()));
    const stateOf = new Map(states.result.map(({ key, state }) => [key, state]));
    kept = new Map(files.result.map(({ key, file }) => [key, file.size]));
    return {
      images: files.result.map((image) => ({ ...image, state: stateOf.get(image.key) })),
      page: pages.result[0] ?? null,
    };
  });
}

export function keepImage({ key, name, file, id, range, width, height }) {
  const used = [...kept].reduce((sum, [other, size]) => (other === key ? sum : sum + size), 0);
  const isNew = !kept.has(key);
  if (isNew && (kept.size >= MAX_IMAGES || used + file.size > MAX_BYTES)) {
    report(`Only the first ${kept.size} images survive a reload.`);
    return null;
  }
  kept.set(key, file.size);
  return quietly(() => within([FILES], "readwrite",
    (files) => files.put({ key, name, file, id, range, width, height })));
}

export function keepState(key, state) {
  if (!kept.has(key)) return;
  waiting.set(key, state);
  timer ??= setTimeout(flush, WRITE_AFTER);
}

function flush() {
  clearTimeout(timer);
  timer = null;
  const entries = [...waiting];
  waiting.clear();
  if (entries.length === 0) return null;
  return quietly(() => within([STATES], "readwrite", (states) => {
    for (const [key, state] of entries) states.put({ key, state });
  }));
}

addEventListener("pagehide", flush);

export function keepPage(page) {
  return quietly(() => within([PAGE], "readwrite", (pages) => pages.put({ key: 0, ...page })));
}

export function forget(key) {
  kept.delete(key);
  waiting.delete(key);
  return quietly(() => within([FILES, STATES], "readwrite", (files, states) => {
    files.delete(key);
    states.delete(key);
  }));
}

export function clear() {
  kept.clear();
  waiting.clear();
  return quietly(() => within([FILES, STATES, PAGE], "readwrite", (...stores) => {
    for (const store of stores) store.clear();
  }));
}
