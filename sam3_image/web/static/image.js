// An image file → what there is to look at: bitmaps of it at several sizes, and a thumbnail.

import * as api from "./api.js";

const THUMBNAIL = 96; // longer side, in pixels
const SMALLEST = 512; // no smaller bitmap is made of one whose longer side is below this

// The image as it is looked at: [{bitmap, scale}], from full size down by halves.
export async function bitmapsOf({ file, id, range, width, height }, signal) {
  let bitmap = (await isDeep(file)) ? null
    : await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
  // What the browser cannot show, or would show otherwise than the model sees it.
  if (bitmap?.width !== width || bitmap?.height !== height) {
    bitmap = await createImageBitmap(await previewOf(id, { file, range }, signal));
  }
  return halves(bitmap, width);
}

// A PNG of 16 bits, which browsers show without regard to which values it has.
async function isDeep(file) {
  const head = new Uint8Array(await file.slice(0, 26).arrayBuffer());
  return String.fromCharCode(...head.subarray(1, 4)) === "PNG" && head[24] === 16;
}

async function previewOf(id, image, signal) {
  try {
    return await api.preview(id, signal);
  } catch (error) {
    if (error.status !== 410) throw error;
    await api.upload(image, signal);
    return api.preview(id, signal);
  }
}

// Drawing 24 megapixels small takes too long for every frame: a half, a quarter, … are made once.
function halves(bitmap, width) {
  const levels = [{ bitmap, scale: bitmap.width / width }];
  let last = bitmap;
  while (Math.max(last.width, last.height) > 2 * SMALLEST) {
    const canvas = new OffscreenCanvas(Math.ceil(last.width / 2), Math.ceil(last.height / 2));
    const context = canvas.getContext("2d");
    context.drawImage(last, 0, 0, canvas.width, canvas.height);
    last = canvas.transferToImageBitmap();
    levels.push({ bitmap: last, scale: last.width / width });
  }
  return levels;
}

export function release(bitmaps) {
  for (const { bitmap } of bitmaps) bitmap.close();
}

// A small JPEG of the image as a Blob.
export async function thumbnailOf(image, bitmaps) {
  const { bitmap } = bitmaps.at(-1);
  const scale = THUMBNAIL / Math.max(image.width, image.height);
  const side = (length) => Math.max(1, Math.round(length * scale));
  const canvas = new OffscreenCanvas(side(image.width), side(image.height));
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.8 });
}
