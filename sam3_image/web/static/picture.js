// A file → a picture: known to the server by an id, and a bitmap of it to look at.

import * as api from "./api.js";

export async function open(file, name, signal) {
  const own = createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
  const { id, width, height } = await api.upload(file, signal);
  let bitmap = await own;
  // What the browser cannot show, or would show otherwise than the model sees it.
  if (bitmap?.width !== width || bitmap?.height !== height) {
    bitmap = await createImageBitmap(await api.preview(id, signal));
  }
  return { id, width, height, bitmap, file, name };
}
