// The server's routes. Every failure is thrown as an Error whose message is for the person.

// A fragment is never sent to a server, so the token may be part of the address.
const token = new URLSearchParams(location.hash.slice(1)).get("token");

export const authorized = token !== null;

async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached: check that it still runs, and try again.");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  const error = new Error(body.message ?? `The server answered ${answer.status}; its log says why.`);
  error.status = answer.status;
  throw error;
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
export async function upload(file, signal) {
  return (await request("/api/pictures", { method: "POST", body: file, signal })).json();
}

export async function preview(id, signal) {
  return (await request(`/api/pictures/${id}/preview`, { signal })).blob();
}

// pictures: the one that is asked about and, where there is one, that of the reference. What the
// server has let go (410) is sent again, once.
async function asked(path, pictures, inputs, signal) {
  const body = { picture: pictures[0].id, inputs };
  try {
    return await post(path, body, signal);
  } catch (error) {
    if (error.status !== 410) throw error;
    for (const { file } of pictures) await upload(file, signal);
    return post(path, body, signal);
  }
}

// → {annotations, scores, metrics}
export async function segment(pictures, inputs, signal) {
  return (await asked("/api/segment", pictures, inputs, signal)).json();
}

// → {name, blob}
export async function file(pictures, inputs) {
  const answer = await asked("/api/file", pictures, inputs);
  const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"))[1];
  return { name, blob: await answer.blob() };
}
