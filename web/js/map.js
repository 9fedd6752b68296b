// A map that needs no internet: track and photos on a plain ground, over tiles where a source is configured.

const TILE = 256, MOST_ZOOM = 21, EARTH_M = 40075016.7;
const GNSS = (test) => (value) => test(Number(value ?? 0));
export const QUALITIES = [ // told apart by the line's form too
  { key: 'quality.RTK fixed', holds: GNSS((q) => q === 4), colour: '#0a7a35', dash: [] },
  { key: 'quality.RTK float', holds: GNSS((q) => q === 5), colour: '#b58900', dash: [10, 5] },
  { key: 'quality.DGNSS', holds: GNSS((q) => q === 2 || q === 9), colour: '#0060c0', dash: [10, 5] },
  { key: 'quality.single', holds: GNSS((q) => ![2, 4, 5, 9].includes(q)), colour: '#c0392b', dash: [2, 5] },
];
const kindOf = (quality) => QUALITIES.findIndex(({ holds }) => holds(quality));

/** Web Mercator, the world 0 to 1. */
const project = (latitude, longitude) => [longitude / 360 + 0.5, 0.5 - Math.asinh(Math.tan(latitude * Math.PI / 180)) / (2 * Math.PI)];

export class TrackMap {
  constructor(canvas, { template, mostZoom, choose }) {
    Object.assign(this, { canvas, template, mostZoom, choose, lines: [], points: [], tiles: new Map(), selected: -1, scale: 1, x: 0.5, y: 0.5, fitted: false, touches: new Map() });
    canvas.addEventListener('pointerdown', (event) => this.press(event));
    canvas.addEventListener('pointermove', (event) => this.move(event));
    for (const name of ['pointerup', 'pointercancel']) canvas.addEventListener(name, (event) => this.lift(event));
    canvas.addEventListener('wheel', (event) => { event.preventDefault(); this.zoom(2 ** (-event.deltaY / 300), event.offsetX, event.offsetY); }, { passive: false });
    canvas.addEventListener('keydown', (event) => this.key(event));
  }

  show({ latitude, longitude, quality, utc_ms }, photos) {
    this.lines = [];
    let last = null;
    for (let at = 0; at < latitude.length; at += 1) {
      const point = project(latitude[at], longitude[at]), kind = kindOf(quality[at]);
      const near = last && utc_ms[at] - last.utc < 60000;
      if (!near || last.kind !== kind) this.lines.push({ kind, points: near ? [last.point] : [] });
      this.lines.at(-1).points.push(point);
      last = { kind, point, utc: utc_ms[at] };
    }
    this.points = photos.photo.map((_, at) => {
      const place = [photos.interpolated_latitude[at] ?? photos.latitude[at], photos.interpolated_longitude[at] ?? photos.longitude[at]];
      return place[0] == null ? null : project(...place);
    });
    this.fitted = false;
    this.draw();
  }

  /** Bring all of it into sight. */
  fit(width, height) {
    const all = [...this.lines.flatMap(({ points }) => points), ...this.points.filter(Boolean)];
    if (!all.length) return;
    const range = (axis) => all.reduce(([low, high], point) => [Math.min(low, point[axis]), Math.max(high, point[axis])], [Infinity, -Infinity]);
    const [[west, east], [north, south]] = [range(0), range(1)];
    [this.x, this.y] = [(west + east) / 2, (north + south) / 2];
    this.scale = Math.min(width / Math.max(east - west, 1e-7), height / Math.max(south - north, 1e-7), TILE * 2 ** MOST_ZOOM / 4) * 0.86;
    this.fitted = true;
  }

  zoom(factor, px = this.canvas.clientWidth / 2, py = this.canvas.clientHeight / 2) {
    const [dx, dy] = [px - this.canvas.clientWidth / 2, py - this.canvas.clientHeight / 2];
    const scale = Math.min(TILE * 2 ** MOST_ZOOM, Math.max(TILE, this.scale * factor));
    this.x += dx / this.scale - dx / scale;
    this.y += dy / this.scale - dy / scale;
    this.scale = scale;
    this.soon();
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.touches.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.moved = this.touches.size > 1 ? 99 : 0;
  }

  move(event) {
    const before = this.touches.get(event.pointerId);
    if (!before) return;
    const now = [event.offsetX, event.offsetY], others = [...this.touches].filter(([id]) => id !== event.pointerId);
    if (others.length) {
      const [, fixed] = others[0], length = ([x, y]) => Math.hypot(x - fixed[0], y - fixed[1]) || 1;
      this.zoom(length(now) / length(before), (now[0] + fixed[0]) / 2, (now[1] + fixed[1]) / 2);
    } else {
      this.x -= (now[0] - before[0]) / this.scale;
      this.y -= (now[1] - before[1]) / this.scale;
      this.moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
      this.soon();
    }
    this.touches.set(event.pointerId, now);
  }

  lift(event) {
    if (this.touches.delete(event.pointerId) && event.type === 'pointerup' && this.moved < 8) this.pick(event.offsetX, event.offsetY);
  }

  /** Choose the photo next to a touch. */
  pick(px, py) {
    let best = -1, least = 40;
    this.points.forEach((point, at) => {
      if (!point) return;
      const [x, y] = this.pixel(point), away = Math.hypot(x - px, y - py);
      if (away < least) [best, least] = [at, away];
    });
    if (best >= 0) this.choose(best);
  }

  key(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const factor = { '+': 1.6, '-': 1 / 1.6 }[event.key];
    if (!way && !factor) return;
    event.preventDefault();
    if (factor) this.zoom(factor);
    else [this.x, this.y] = [this.x + way[0] * 60 / this.scale, this.y + way[1] * 60 / this.scale];
    this.soon();
  }

  select(index) {
    this.selected = index;
    this.soon();
  }

  pixel([x, y]) {
    return [(x - this.x) * this.scale + this.canvas.clientWidth / 2, (y - this.y) * this.scale + this.canvas.clientHeight / 2];
  }

  soon() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  draw() {
    const { canvas } = this, [width, height] = [canvas.clientWidth, canvas.clientHeight], ratio = Math.min(devicePixelRatio, 2);
    if (!width) return;
    if (!this.fitted) this.fit(width, height);
    if (canvas.width !== Math.round(width * ratio)) [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    const style = getComputedStyle(document.documentElement), context = canvas.getContext('2d');
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = style.getPropertyValue('--soft');
    context.fillRect(0, 0, width, height);
    if (this.template) this.drawTiles(context, width, height);
    this.drawTrack(context);
    this.drawPhotos(context, width, height);
    this.drawScale(context, height, style.getPropertyValue('--ink'));
  }

  drawTiles(context, width, height) {
    const zoom = Math.max(0, Math.min(this.mostZoom, Math.round(Math.log2(this.scale / TILE)))), count = 2 ** zoom, size = this.scale / count;
    const first = (middle, extent) => Math.max(0, Math.floor((middle - extent / 2 / this.scale) * count));
    for (let column = first(this.x, width); column < count && (column / count - this.x) * this.scale < width / 2; column += 1) {
      for (let line = first(this.y, height); line < count && (line / count - this.y) * this.scale < height / 2; line += 1) {
        const image = this.tile(zoom, column, line), [x, y] = this.pixel([column / count, line / count]);
        if (image.complete && image.naturalWidth) context.drawImage(image, x, y, size + 0.5, size + 0.5);
      }
    }
  }

  tile(zoom, column, line) {
    const address = this.template.replace('{z}', zoom).replace('{x}', column).replace('{y}', line);
    if (!this.tiles.has(address)) {
      const image = new Image();
      image.onload = () => this.soon();
      image.src = address;
      this.tiles.set(address, image);
      if (this.tiles.size > 200) this.tiles.delete(this.tiles.keys().next().value);
    }
    return this.tiles.get(address);
  }

  drawTrack(context) {
    context.lineJoin = context.lineCap = 'round';
    for (const { kind, points } of this.lines) {
      context.beginPath();
      points.forEach((point, at) => context[at ? 'lineTo' : 'moveTo'](...this.pixel(point)));
      context.setLineDash(QUALITIES[kind].dash);
      context.strokeStyle = QUALITIES[kind].colour;
      context.lineWidth = 8;
      context.stroke();
    }
    context.setLineDash([]);
  }

  drawPhotos(context, width, height) {
    const used = new Set(); // one dot for each few pixels is as much as can be seen
    context.fillStyle = '#fff';
    for (const point of this.points) {
      if (!point) continue;
      const [x, y] = this.pixel(point), cell = Math.round(x / 7) * 8192 + Math.round(y / 7);
      if (x < 0 || y < 0 || x > width || y > height || used.has(cell)) continue;
      used.add(cell);
      context.fillRect(x - 1.5, y - 1.5, 3, 3);
    }
    const chosen = this.points[this.selected];
    if (!chosen) return;
    context.beginPath();
    context.arc(...this.pixel(chosen), 10, 0, 7);
    context.lineWidth = 5;
    context.strokeStyle = '#fff';
    context.fillStyle = '#b00020';
    context.fill();
    context.stroke();
  }

  drawScale(context, height, ink) {
    const metres = EARTH_M * Math.cos(Math.atan(Math.sinh((0.5 - this.y) * 2 * Math.PI))) / this.scale;
    const power = 10 ** Math.floor(Math.log10(90 * metres)), round = [5, 2, 1].find((one) => one * power <= 90 * metres) * power;
    context.fillStyle = ink;
    context.fillRect(12, height - 14, round / metres, 4);
    context.font = '600 15px system-ui, sans-serif';
    context.fillText(round >= 1000 ? `${round / 1000} km` : `${round} m`, 12, height - 20);
  }
}
