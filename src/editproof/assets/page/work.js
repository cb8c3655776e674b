// In a worker: from a photo file to its protected PNG, in the steps of protection/apply.py, resolution.py, own_size.py.
"use strict";

const SIDES = [16, 16384]; // pixels; more than a canvas holds in today's browsers
const CUBIC = -0.5; // of the bicubic filter with anti-aliasing
let session;

onmessage = async ({ data }) => {
  try {
    if (data.settings) await start(data);
    else postMessage(await protect(data.file, data.levels));
  } catch (error) {
    postMessage({ wrong: error.key ?? "page_failed", values: error.values ?? { error: String(error.message ?? error) } });
  }
};

async function start({ settings, wasm, mjs, network }) {
  self.settings = settings;
  ort.env.wasm.numThreads = 1; // more need headers that a page opened from a disk has not
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([mjs], { type: "text/javascript" })) };
  session = ort.InferenceSession.create(network);
  await session;
}

function refuse(key, values = {}) {
  throw Object.assign(new Error(key), { key, values });
}

async function protect(file, eps) {
  if ((await file.slice(0, 1 << 20).text()).includes(settings.mark_space)) refuse("page_marked");
  const { pixels, width, height } = await read(file);
  postMessage({ doing: "page_computing" });
  const grey = isGrey(pixels);
  const own = Math.max(settings.smallest, Math.round(Math.sqrt(height * width)));
  const [h, w] = workingSize(height, width, Math.min(settings.size, own));
  const small = shrink(pixels, height, width, h, w);
  const delta = await perturbation(small, h, w, eps, grey);
  const largest = add(pixels, height, width, delta, h, w, eps, grey);
  if (largest === 0) refuse("page_unchanged");
  return { png: await png(pixels, width, height), width, height, largest };
}

// RGBA pixels, upright, in sRGB.
async function read(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    refuse("page_unreadable");
  }
  const { width, height } = bitmap;
  if (Math.min(width, height) < SIDES[0] || Math.max(width, height) > SIDES[1]) {
    refuse("page_size", { width, height, least: SIDES[0], most: SIDES[1] });
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  checkReading();
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { pixels: context.getImageData(0, 0, width, height).data, width, height };
}

// Some browsers change what a page reads of its pictures, so that it cannot recognise visitors by it.
function checkReading() {
  const context = new OffscreenCanvas(16, 16).getContext("2d", { willReadFrequently: true });
  const known = new ImageData(Uint8ClampedArray.from({ length: 1024 }, (_, i) => (i % 4 === 3 ? 255 : (i * 7) % 256)), 16, 16);
  context.putImageData(known, 0, 0);
  const seen = context.getImageData(0, 0, 16, 16).data;
  if (known.data.some((value, i) => value !== seen[i])) refuse("page_canvas");
}

function isGrey(pixels) {
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i] !== pixels[i + 1] || pixels[i] !== pixels[i + 2]) return false;
  }
  return true;
}

// resolution.working_size
function workingSize(height, width, side) {
  const scale = side / Math.sqrt(height * width);
  return [height, width].map((length) => Math.max(16, roundEven((length * scale) / 16) * 16));
}

function roundEven(x) {
  const down = Math.floor(x);
  return x - down === 0.5 ? down + Math.abs(down % 2) : Math.round(x);
}

// For each of `to` places: the first of `from` places that it reads, and their weights, which add up to 1.
function filter(from, to) {
  const scale = from / to, wider = Math.max(scale, 1), places = [];
  for (let i = 0; i < to; i++) {
    const centre = scale * (i + 0.5);
    const first = Math.max(Math.trunc(centre - 2 * wider + 0.5), 0);
    const last = Math.min(Math.trunc(centre + 2 * wider + 0.5), from);
    const weights = Array.from({ length: last - first }, (_, j) => cubic((j + first - centre + 0.5) / wider));
    const sum = weights.reduce((a, b) => a + b);
    places.push({ first, weights: weights.map((weight) => weight / sum) });
  }
  return places;
}

function cubic(x) {
  x = Math.abs(x);
  if (x < 1) return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1;
  return x < 2 ? ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC : 0;
}

// The same in whole numbers, as 8-bit pictures are scaled by Pillow and PyTorch: {first, weights}, bits of the fraction.
function wholeFilter(from, to) {
  const places = filter(from, to);
  const most = places.reduce((a, { weights }) => Math.max(a, ...weights), 0);
  let bits = 0;
  while (bits < 22 && Math.trunc(0.5 + most * 2 ** (bits + 1)) < 32768) bits++;
  const whole = (weight) => Math.trunc(weight * 2 ** bits + (weight < 0 ? -0.5 : 0.5));
  return { bits, places: places.map(({ first, weights }) => ({ first, weights: weights.map(whole) })) };
}

// RGBA pixels of height x width as (h, w, 3) levels.
function shrink(pixels, height, width, h, w) {
  const wide = new Uint8ClampedArray(height * w * 3), small = new Uint8ClampedArray(h * w * 3);
  const across = wholeFilter(width, w), down = wholeFilter(height, h);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < w; x++) {
      const { first, weights } = across.places[x];
      for (let c = 0; c < 3; c++) {
        let sum = 1 << (across.bits - 1);
        for (let j = 0, at = (y * width + first) * 4 + c; j < weights.length; j++, at += 4) sum += pixels[at] * weights[j];
        wide[(y * w + x) * 3 + c] = sum >> across.bits;
      }
    }
  }
  for (let y = 0; y < h; y++) {
    const { first, weights } = down.places[y];
    for (let x = 0; x < w * 3; x++) {
      let sum = 1 << (down.bits - 1);
      for (let j = 0, at = first * w * 3 + x; j < weights.length; j++, at += w * 3) sum += wide[at] * weights[j];
      small[y * w * 3 + x] = sum >> down.bits;
    }
  }
  return small;
}

// What the network adds to (h, w, 3) levels, at most eps of them: whole levels, but in grey photos.
async function perturbation(small, h, w, eps, grey) {
  const multiple = settings.multiple;
  const high = Math.ceil(h / multiple) * multiple, broad = Math.ceil(w / multiple) * multiple;
  const images = new Float32Array(3 * high * broad); // edges are repeated up to the multiple
  for (let c = 0, at = 0; c < 3; c++) {
    for (let y = 0; y < high; y++) {
      const row = Math.min(y, h - 1) * w;
      for (let x = 0; x < broad; x++) images[at++] = small[(row + Math.min(x, w - 1)) * 3 + c] / 255;
    }
  }
  const made = await (await session).run({
    images: new ort.Tensor("float32", images, [1, 3, high, broad]),
    mask: new ort.Tensor("float32", new Float32Array(high * broad), [1, 1, high, broad]),
    eps: new ort.Tensor("float32", [eps / 255], []),
  });
  const delta = new Float32Array(h * w * 3);
  for (let y = 0, at = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      for (let c = 0; c < 3; c++, at++) {
        const moved = small[at] + clamp(made.delta.data[(c * high + y) * broad + x] * 255, eps);
        delta[at] = Math.round(Math.min(Math.max(moved, 0), 255)) - small[at];
      }
    }
  }
  return grey ? inGrey(delta, eps) : delta;
}

function clamp(value, reach) {
  return Math.min(Math.max(value, -reach), reach);
}

// protection.apply._in_grey: equal channels, as long as before where the budget allows.
function inGrey(delta, eps) {
  const length = (values) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  const mean = delta.map((_, i) => (delta[i - (i % 3)] + delta[i - (i % 3) + 1] + delta[i - (i % 3) + 2]) / 3);
  const share = Math.min(3, length(delta) / Math.max(length(mean), 1e-9));
  return mean.map((value) => clamp(value * share, eps));
}

// own_size.add: the perturbation scaled up, bounded and added to the RGBA pixels in place; returns the largest change.
function add(pixels, height, width, delta, h, w, eps, grey) {
  const across = filter(w, width), down = filter(h, height), wide = new Float32Array(h * width * 3);
  const reach = delta.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < width; x++) {
      const { first, weights } = across[x];
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let j = 0; j < weights.length; j++) sum += weights[j] * delta[(y * w + first + j) * 3 + c];
        wide[(y * width + x) * 3 + c] = sum;
      }
    }
  }
  let largest = 0;
  for (let y = 0; y < height; y++) {
    const { first, weights } = down[y];
    for (let x = 0; x < width; x++) {
      const at = (y * width + x) * 4;
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let j = 0; j < weights.length; j++) sum += weights[j] * wide[((first + j) * width + x) * 3 + c];
        const before = pixels[at + c];
        pixels[at + c] = before + clamp(roundEven(clamp(sum, reach)), eps); // clamped to 0 and 255 by its type
        if (grey && c > 0) pixels[at + c] = pixels[at];
        largest = Math.max(largest, Math.abs(pixels[at + c] - before));
      }
    }
  }
  return largest;
}

// An 8-bit PNG (ISO 15948) with the mark of a protected photo and no other metadata.
async function png(pixels, width, height) {
  let channels = 3;
  for (let i = 3; i < pixels.length && channels === 3; i += 4) if (pixels[i] < 255) channels = 4;
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8);
  header.setUint8(9, channels === 4 ? 6 : 2);
  const parts = [Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), ...chunk("IHDR", new Uint8Array(header.buffer))];
  parts.push(...chunk("sRGB", Uint8Array.of(0)));
  parts.push(...chunk("iTXt", new TextEncoder().encode(`XML:com.adobe.xmp\0\0\0\0\0${settings.mark}`)));
  const deflate = new CompressionStream("deflate");
  const writing = writeRows(deflate.writable.getWriter(), pixels, width, height, channels);
  const reader = deflate.readable.getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) parts.push(...chunk("IDAT", read.value));
  await writing;
  return new Blob([...parts, ...chunk("IEND", new Uint8Array(0))], { type: "image/png" });
}

async function writeRows(writer, pixels, width, height, channels) {
  for (let y = 0; y < height; y++) {
    const row = new Uint8Array(1 + width * channels);
    row[0] = 2; // the filter: less what is above
    for (let x = 0, at = y * width * 4; x < width; x++, at += 4) {
      for (let c = 0; c < channels; c++) row[1 + x * channels + c] = pixels[at + c] - (y ? pixels[at + c - width * 4] : 0);
    }
    await writer.write(row);
  }
  await writer.close();
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function chunk(kind, data) {
  const name = new TextEncoder().encode(kind), length = new DataView(new ArrayBuffer(4)), sum = new DataView(new ArrayBuffer(4));
  let crc = 0xffffffff;
  for (const bytes of [name, data]) for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  length.setUint32(0, data.length);
  sum.setUint32(0, ~crc);
  return [new Uint8Array(length.buffer), name, data, new Uint8Array(sum.buffer)];
}
