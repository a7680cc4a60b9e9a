// The server's routes. Every failure is thrown as an Error: its `title` says what went wrong in a
// person's terms, its message is the server's own sentence.

// The server's address, which a proxy may give a path of its own; ends in a slash.
export const SERVER = new URL("..", import.meta.url);

const KEY = "sam3-token";

let imageOf = () => undefined;
let askForToken = async () => false;
let token = fromAddress() ?? sessionStorage.getItem(KEY);

// A fragment is never sent to a server, but it stands in the address bar and in the history.
function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given === null) return null;
  history.replaceState(null, "", location.pathname + location.search);
  sessionStorage.setItem(KEY, given);
  return given;
}

export function hasToken() {
  return token !== null;
}

export function useToken(given) {
  token = given;
  sessionStorage.setItem(KEY, given);
}

// images(id) → the image {file, range} of an id, to be sent again; ask() → whether a new token was given.
export function prepare({ images, ask }) {
  imageOf = images;
  askForToken = ask;
}

async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  let answer;
  try {
    answer = await fetch(new URL(`.${path}`, SERVER), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw refusal("The server cannot be reached.", "Check that it still runs, and try again.");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  const sentence = body.message ?? `The server answered ${answer.status}; its log says why.`;
  const error = refusal(titleOf(answer.status, path), sentence, answer.status);
  if (answer.status === 401 && (await askForToken(error))) return request(path, options);
  throw error;
}

export function refusal(title, sentence, status) {
  return Object.assign(new Error(sentence), { title, status });
}

function titleOf(status, path) {
  if (status === 401) return "This server asks for a token.";
  if (status === 413) return "This file is too large for the server.";
  if (status === 422 && path.startsWith("/api/pictures")) return "This file cannot be opened as an image.";
  if (status === 422) return "The server does not accept this question.";
  if (status === 429) return "The server is busy: try again in a moment.";
  if (status === 503) return "The server is short of memory.";
  return "The server failed on this.";
}

function post(path, body, signal) {
  return request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
}

export async function about() {
  return (await request("/api/about")).json();
}

export async function example() {
  return (await request("/api/example")).blob();
}

// → {id, width, height}
// {file, range}: range is the input value_range, or null.
export async function upload({ file, range }, signal) {
  const path = range ? `/api/pictures?value_range=${encodeURIComponent(range)}` : "/api/pictures";
  return (await request(path, { method: "POST", body: file, signal })).json();
}

export async function preview(id, signal) {
  return (await request(`/api/pictures/${id}/preview`, { signal })).blob();
}

// What the server has let go (410) is sent again, once.
async function asked(path, body, signal) {
  try {
    return await post(path, body, signal);
  } catch (error) {
    if (error.status !== 410) throw error;
    for (const id of [body.picture, body.inputs.reference_image].filter(Boolean)) {
      await upload(imageOf(id), signal);
    }
    return post(path, body, signal);
  }
}

// → {annotations, scores, metrics}. clicksOn: whether a pick starts from the answer before it.
export async function segment(picture, inputs, clicksOn, signal) {
  return (await asked("/api/segment", { picture, inputs, clicks_on: clicksOn }, signal)).json();
}

// The file of instances: as /api/segment gives them, less what was discarded. concepts: names in the
// order of their classes. output: output inputs of predict(). → {name, blob}
export async function file(picture, instances, concepts, output, signal) {
  const body = { picture, instances, concepts, inputs: output };
  const answer = await asked("/api/file", body, signal);
  const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"))[1];
  return { name, blob: await answer.blob() };
}
