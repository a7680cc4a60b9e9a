// An image file → what there is to look at: bitmaps of it at several sizes, and a thumbnail.

import * as api from "./api.js";

const THUMBNAIL = 96; // longer side, in pixels
const SMALLEST = 512; // no smaller bitmap is made of one whose longer side is below this

// Sends the file. → {id, width, height}, of the upright image
export async function send(file, signal) {
  return api.upload(file, signal);
}

// The image as it is looked at: [{bitmap, scale}], from full size down by halves.
export async function bitmapsOf({ file, id, width, height }, signal) {
  let bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
  // What the browser cannot show, or would show otherwise than the model sees it.
  if (bitmap?.width !== width || bitmap?.height !== height) {
    bitmap = await createImageBitmap(await previewOf(id, file, signal));
  }
  return halves(bitmap, width);
}

async function previewOf(id, file, signal) {
  try {
    return await api.preview(id, signal);
  } catch (error) {
    if (error.status !== 410) throw error;
    await api.upload(file, signal);
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
