// ZIP archives. Those made here store files as they are: images and most annotations are small already.

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});
const DATE = 0x21; // 1980-01-01, so that equal files make equal archives
const UTF8 = 0x0800;
const LARGEST = 0xffffffff; // what a ZIP without its 64-bit extension can hold

// entries: [{name, blob}], names unique. → Blob; throws where the whole is over 4 GB.
export async function zip(entries) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, blob } of entries) {
    const encoded = new TextEncoder().encode(name);
    const checksum = crc32(new Uint8Array(await blob.arrayBuffer()));
    const facts = { encoded, checksum, size: blob.size, offset };
    const head = localHeader(facts);
    parts.push(head, blob);
    directory.push(centralHeader(facts));
    offset += head.length + blob.size;
    if (offset > LARGEST) throw new Error("The archive would be over 4 GB: save fewer images at a time.");
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  return new Blob([...parts, ...directory, end(entries.length, length, offset)],
    { type: "application/zip" });
}

function crc32(bytes) {
  let value = 0xffffffff;
  for (let at = 0; at < bytes.length; at++) value = TABLE[(value ^ bytes[at]) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

// Fields: [bytes, value], little-endian.
function packed(fields, name = new Uint8Array()) {
  const length = fields.reduce((sum, [bytes]) => sum + bytes, 0);
  const view = new DataView(new ArrayBuffer(length));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  const whole = new Uint8Array(length + name.length);
  whole.set(new Uint8Array(view.buffer));
  whole.set(name, length);
  return whole;
}

const common = ({ encoded, checksum, size }) => [
  [2, 20], [2, UTF8], [2, 0], [2, 0], [2, DATE], [4, checksum], [4, size], [4, size],
  [2, encoded.length], [2, 0],
];

function localHeader(facts) {
  return packed([[4, 0x04034b50], ...common(facts)], facts.encoded);
}

function centralHeader(facts) {
  return packed([
    [4, 0x02014b50], [2, 20], ...common(facts), [2, 0], [2, 0], [2, 0], [4, 0], [4, facts.offset],
  ], facts.encoded);
}

function end(count, length, offset) {
  return packed([
    [4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, length], [4, offset], [2, 0],
  ]);
}

// The files of a small archive that a server made: a Map of their text by name.
export async function unzipTexts(blob) {
  const view = new DataView(await blob.arrayBuffer());
  const bytes = new Uint8Array(view.buffer);
  const text = (part) => new TextDecoder().decode(part);
  let tail = view.byteLength - 22; // without a comment, the directory's end is as long as this
  while (tail > 0 && view.getUint32(tail, true) !== 0x06054b50) tail--;
  const files = new Map();
  let at = view.getUint32(tail + 16, true);
  for (let count = view.getUint16(tail + 10, true); count > 0; count--) {
    const isPacked = view.getUint16(at + 10, true) === 8;
    const size = view.getUint32(at + 20, true);
    const [name, extra, comment] = [28, 30, 32].map((field) => view.getUint16(at + field, true));
    const local = view.getUint32(at + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const data = bytes.subarray(start, start + size);
    const content = isPacked ? await inflated(data) : data;
    files.set(text(bytes.subarray(at + 46, at + 46 + name)), text(content));
    at += 46 + name + extra + comment;
  }
  return files;
}

function inflated(data) {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).arrayBuffer();
}
