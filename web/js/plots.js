// The timeline and small plots over it, drawn by hand.

import { language, make, number, say } from './core.js';
import { QUALITIES } from './map.js';

const ratio = () => Math.min(devicePixelRatio, 2);

function prepare(canvas, width, height) {
  [canvas.width, canvas.height] = [width * ratio(), height * ratio()];
  const context = canvas.getContext('2d'), style = getComputedStyle(document.documentElement);
  context.scale(ratio(), ratio());
  context.font = '600 14px system-ui, sans-serif';
  return { context, ink: style.getPropertyValue('--ink'), quiet: style.getPropertyValue('--quiet'), link: style.getPropertyValue('--link') };
}

const clock = (ms) => new Date(ms).toLocaleTimeString(language, { hourCycle: 'h23', timeZone: 'UTC' });

function range(...lists) {
  let [low, high] = [Infinity, -Infinity];
  for (const list of lists) for (const value of list) if (value != null) { low = Math.min(low, value); high = Math.max(high, value); }
  return [low, high > low ? high : low + 1];
}

/** From top to bottom: the quality of the fixes, the speed, when there are photos, the hour (UTC). */
export function showTimeline(canvas, track, photos) {
  const width = canvas.clientWidth, height = 92;
  if (!width || !(track.utc_ms.length || photos.utc_ms.length)) return;
  const { context, ink, quiet, link } = prepare(canvas, width, height);
  const [begin, end] = range(track.utc_ms, photos.utc_ms), x = (ms) => (ms - begin) / (end - begin) * (width - 2);
  track.utc_ms.forEach((ms, at) => {
    const next = track.utc_ms[at + 1] ?? ms;
    context.fillStyle = QUALITIES.find(({ holds }) => holds(track.quality[at])).colour;
    if (next - ms < 60000) context.fillRect(x(ms), 0, Math.max(1, x(next) - x(ms)) + 0.5, 12);
  });
  const fastest = track.speed_mps.reduce((most, speed) => Math.max(most, speed ?? 0), 0);
  context.strokeStyle = quiet;
  context.lineWidth = 2;
  context.beginPath();
  track.utc_ms.forEach((ms, at) => context[at ? 'lineTo' : 'moveTo'](x(ms), 52 - (track.speed_mps[at] ?? 0) / (fastest || 1) * 34));
  context.stroke();
  context.fillStyle = link;
  let last = -1;
  for (const ms of photos.utc_ms) if (Math.round(x(ms)) !== last) { last = Math.round(x(ms)); context.fillRect(last, 56, 1, 12); }
  context.fillStyle = ink;
  context.fillText(clock(begin), 4, 86);
  context.textAlign = 'right';
  context.fillText(`${clock(end)} UTC`, width - 4, 86);
  context.fillText(`${number(fastest * 3.6)} km/h`, width - 4, 28);
}

/** A figure with one line; in a column of pixels from the least to the greatest value. */
export function plot(times, values, title, digits) {
  const canvas = make('canvas', { class: 'plot', role: 'img' });
  const known = values.filter((value) => value != null).sort((a, b) => a - b);
  const [middle, worst] = [known[known.length >> 1], known.at(-1)].map((value) => number(value, digits));
  const words = say('plot.words', { middle, worst });
  canvas.setAttribute('aria-label', `${title}: ${words}`);
  requestAnimationFrame(() => drawPlot(canvas, times, values));
  return make('figure', {}, make('figcaption', {}, make('span', {}, title), make('small', {}, words)), canvas);
}

function drawPlot(canvas, times, values) {
  const width = canvas.clientWidth, height = 92;
  if (!width) return;
  const { context, link } = prepare(canvas, width, height);
  const [begin, end] = range(times), [low, high] = range(values, [0]), columns = new Map();
  values.forEach((value, at) => {
    if (value == null) return;
    const column = Math.round((times[at] - begin) / (end - begin) * (width - 4)) + 2, y = height - 6 - (value - low) / (high - low) * (height - 12);
    const seen = columns.get(column) ?? [y, y];
    columns.set(column, [Math.min(seen[0], y), Math.max(seen[1], y)]);
  });
  context.fillStyle = link;
  for (const [column, [top, bottom]] of columns) context.fillRect(column - 1, top - 1.5, 3, bottom - top + 3);
}
