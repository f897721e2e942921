// Reading, resizing and drawing pictures: the page's functions that know nothing of the network.
"use strict";

class Told extends Error {} // its message is a sentence for the reader

function tryItPictures() {
  const MOST_PIXELS = 64e6;
  const FAINT = 32; // of 255: an opacity that shows next to nothing
  const BARRED = /^(video|audio|text|application)\//;
  // From 0 to 1, dark to light, so that the order is seen without colours too.
  const STOPS = [[13, 8, 60], [92, 18, 110], [173, 46, 92], [231, 98, 44], [251, 172, 42], [252, 255, 190]];

  function context2d(width, height) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    return canvas.getContext("2d", { willReadFrequently: true });
  }

  const blobOf = (canvas, type, quality) => new Promise((resolve) => canvas.toBlob(resolve, type, quality));

  /** A file -> {data (RGBA), width, height}: upright, colour profile ignored, transparency over white, as in Python. */
  async function decoded(blob) {
    const name = blob.name ? `“${blob.name}”` : "The picture";
    if (!blob.size) throw new Told(`${name} is empty (0 bytes); choose another file.`);
    if (BARRED.test(blob.type)) throw new Told(`${name} is not a photograph (${blob.type}); choose a picture file.`);
    if (await isTurnedWebP(blob)) {
      throw new Told(`${name} is a WebP that its EXIF entry turns, which browsers show one way or the other; save it as PNG first.`);
    }
    let bitmap;
    try {
      const how = { colorSpaceConversion: "none", imageOrientation: "from-image", premultiplyAlpha: "none" };
      bitmap = await createImageBitmap(blob, how);
    } catch {
      const heic = /\.hei[cf]$/i.test(blob.name || "") || /hei[cf]/.test(blob.type);
      throw new Told(heic
        ? `${name} is a HEIC file, which this browser cannot read; save it as JPEG or PNG first.`
        : `${name} cannot be read as a picture: it is damaged, cut off, or of a kind that this browser does not know.`);
    }
    const { width, height } = bitmap;
    try {
      if (width * height > MOST_PIXELS) {
        throw new Told(`${name} has ${Math.round((width * height) / 1e6)} megapixels; this page takes up to ${MOST_PIXELS / 1e6}.`);
      }
      const context = context2d(width, height);
      const pixels = () => {
        context.drawImage(bitmap, 0, 0);
        return context.getImageData(0, 0, width, height).data;
      };
      context.fillStyle = "white";
      context.fillRect(0, 0, width, height);
      const data = pixels();
      // Drawn over white all is opaque. Of a canvas larger than the browser has, all is black and transparent, unsaid.
      if ([3, 4 * Math.floor(data.length / 8) + 3, data.length - 1].some((at) => data[at] === 0)) {
        throw new Told(`${name} has ${width} × ${height} pixels, more than this browser can draw; make it smaller.`);
      }
      if (data.every((level) => level >= 255 - FAINT)) {
        context.clearRect(0, 0, width, height);
        if (pixels().every((level, i) => i % 4 !== 3 || level < FAINT)) {
          throw new Told(`${name} is transparent everywhere; save it without transparency.`);
        }
      }
      // Fewer than one value in 10 000 are a sensor's hot pixels, which brighten no photograph.
      const bright = () => data.reduce((n, level, i) => n + (i % 4 !== 3 && level >= 64), 0);
      if (await hasDeepLevels(blob) && bright() * 10_000 < 3 * width * height) {
        throw new Told(`${name} uses less than a quarter of its 16-bit range; stretch its values, or save 8 bits.`);
      }
      return { data, width, height };
    } finally {
      bitmap.close();
    }
  }

  /** Does a WebP's EXIF orientation ask to be turned? Chromium shows the file as it is stored, other readers turn it. */
  async function isTurnedWebP(blob) {
    const view = async (at, size) => new DataView(await blob.slice(at, at + size).arrayBuffer());
    const code = (bytes, at) => String.fromCharCode(...new Uint8Array(bytes.buffer, at, 4));
    const start = await view(0, 12);
    if (start.byteLength < 12 || code(start, 0) !== "RIFF" || code(start, 8) !== "WEBP") return false;
    for (let at = 12; at + 8 <= blob.size; ) {
      const chunk = await view(at, 8);
      const size = chunk.getUint32(4, true);
      if (code(chunk, 0) === "EXIF") return orientation(await view(at + 8, Math.min(size, 65_536))) > 1;
      at += 8 + size + (size % 2);
    }
    return false;
  }

  /** The orientation in an EXIF block, 1 to 8; 1 where it states none. */
  function orientation(block) {
    const named = block.byteLength > 14 && block.getUint32(0) === 0x45786966; // "Exif" before the TIFF header, in some files
    const [tiff, length] = [named ? 6 : 0, block.byteLength];
    if (length < tiff + 8) return 1;
    const little = block.getUint16(tiff) === 0x4949;
    const first = tiff + block.getUint32(tiff + 4, little);
    const count = first + 2 <= length ? block.getUint16(first, little) : 0;
    for (let at = first + 2, i = 0; i < count && at + 12 <= length; i++, at += 12) {
      const value = block.getUint16(at + 8, little);
      if (block.getUint16(at, little) === 0x0112) return value <= 8 ? value : 1;
    }
    return 1;
  }

  /** Does a PNG say that its levels have 16 bits? Browsers keep the upper eight, and 12-bit photographs turn black. */
  async function hasDeepLevels(blob) {
    const start = new Uint8Array(await blob.slice(0, 26).arrayBuffer());
    return String.fromCharCode(...start.subarray(1, 4)) === "PNG" && start[24] === 16;
  }

  /** The photo no larger than `side`; the same object where it fits. */
  function reduced(photo, side) {
    const scale = side / Math.max(photo.width, photo.height);
    if (scale >= 1) return photo;
    return resized(photo, Math.round(photo.width * scale) || 1, Math.round(photo.height * scale) || 1);
  }

  function resized(photo, width, height) {
    const from = context2d(photo.width, photo.height);
    from.putImageData(new ImageData(photo.data, photo.width, photo.height), 0, 0);
    const to = context2d(width, height);
    to.imageSmoothingQuality = "high";
    to.drawImage(from.canvas, 0, 0, width, height);
    return { data: to.getImageData(0, 0, width, height).data, width, height };
  }

  /** Some browsers add noise to what is read from a canvas: draw known pixels and read them back. */
  function canvasIsHonest() {
    const pixels = new ImageData(16, 16);
    for (let i = 0; i < pixels.data.length; i++) pixels.data[i] = i % 4 === 3 ? 255 : (i * 37) % 256;
    const context = context2d(16, 16);
    context.putImageData(pixels, 0, 0);
    return context.getImageData(0, 0, 16, 16).data.every((v, i) => v === pixels.data[i]);
  }

  function colour(share) {
    const at = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
    const low = Math.min(Math.floor(at), STOPS.length - 2);
    return STOPS[low].map((v, i) => v + (STOPS[low + 1][i] - v) * (at - low));
  }

  /** value(x, y) of a map for pixel (x, y) of a canvas of another size: the nearest one. */
  function nearest({ values, width: w, height: h }, width, height) {
    const columns = Int32Array.from({ length: width }, (_, x) => Math.min(w - 1, Math.floor(((x + 0.5) * w) / width)));
    return (x, y) => values[Math.min(h - 1, Math.floor(((y + 0.5) * h) / height)) * w + columns[x]];
  }

  /** A white line with a black rim where the mask begins: visible on any photo. */
  function outline(picture, value, limit) {
    const { width, height, data } = picture;
    const line = [];
    for (let y = 0; y + 1 < height; y++) {
      for (let x = 0; x + 1 < width; x++) {
        const inside = value(x, y) > limit;
        if (inside !== value(x + 1, y) > limit || inside !== value(x, y + 1) > limit) line.push([x, y]);
      }
    }
    const paint = (x, y, grey) => {
      if (x >= 0 && y >= 0) data.fill(grey, 4 * (y * width + x), 4 * (y * width + x) + 3);
    };
    for (const [x, y] of line) for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) paint(x + dx, y + dy, 0);
    for (const [x, y] of line) paint(x, y, 255);
  }

  function cross(context, at) {
    const [x, y] = [at.x * context.canvas.width, at.y * context.canvas.height];
    for (const [style, thick] of [["black", 5], ["white", 2]]) {
      context.strokeStyle = style;
      context.lineWidth = thick;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 4 * dx, y + 4 * dy);
        context.lineTo(x + 14 * dx, y + 14 * dy);
      }
      context.stroke();
    }
  }

  /** Hands the reader a PNG file: grey(value of the map) at each pixel. */
  async function save({ width, height, values }, grey, name) {
    const context = context2d(width, height);
    const picture = context.createImageData(width, height);
    picture.data.fill(255);
    for (let i = 0; i < values.length; i++) picture.data.fill(grey(values[i]), 4 * i, 4 * i + 3);
    context.putImageData(picture, 0, 0);
    const url = URL.createObjectURL(await blobOf(context.canvas, "image/png"));
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  return { context2d, blobOf, decoded, reduced, resized, canvasIsHonest, colour, nearest, outline, cross, save };
}
