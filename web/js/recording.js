// One recording: what it is worth, map, timeline, photos, plots, files, and what can be done with it.

import { $, allowed, ask, attempt, follow, guardLink, isOpen, make, number, replace, say, sayBytes, sayDate, sayDuration, sayKm, sayMs, showJob, stored, toast, write } from './core.js';
import { TrackMap, QUALITIES } from './map.js';
import { Photos } from './photos.js';
import { plot, showTimeline } from './plots.js';

const { id, tiles, mostZoom } = $('recording').dataset;
const root = `/api/recordings/${id}`;
const POLL_MS = 1500, UPLOAD_TIMEOUT_MS = 600000, LONG_MS = 30000;
let recording = null, ended = null, data = null, loaded = '';

const map = new TrackMap($('map'), { template: tiles, mostZoom: Number(mostZoom), choose: (index) => photos.choose(index) });
const photos = new Photos($('photos'), $('viewer'), id, (index) => { map.select(index); showChosen(index); });

function showFacts() {
  const { started, stopped, mode, state, cameras, receiver, summary, size_bytes } = recording;
  const facts = [
    ['started', sayDate(started, 'long')],
    ['duration', stopped && sayDuration((new Date(stopped) - new Date(started)) / 1000)],
    ['distance', summary?.distance_m != null && sayKm(summary.distance_m)],
    ['time.quality', summary?.time_error_ms != null && `±${sayMs(summary.time_error_ms)}`],
    ['quality.RTK fixed', summary?.rtk_fixed_share != null && `${number(summary.rtk_fixed_share * 100)} %`],
    ['located', summary?.photos && `${number(summary.located_photos)} / ${number(summary.photos)}`],
    ['cameras', cameras.map(({ folder, model }) => `${folder} (${model.replace(' Black', '')})`).join(', ')],
    ['mode', mode && `${say(`mode.${mode}`, {}, mode)}, ${say(`recording.${state}`, {}, state)}`],
    ['epochs', receiver && number(receiver.epochs)],
    ['size', sayBytes(size_bytes)],
  ].filter(([, value]) => value);
  replace($('facts'), facts, () => facts.map(([key, value]) => make('div', { class: key === 'cameras' && 'wide' }, make('dt', {}, say(key)), make('dd', {}, value))));
  replace($('warnings'), recording.warnings, () => recording.warnings.slice(0, 5).map((text) => make('li', { 'data-level': 'warning' }, make('span', {}, text))));
}

function showFiles() {
  const others = recording.files.filter(({ path }) => !path.startsWith('photos/'));
  $('report').hidden = !recording.files.some(({ path }) => path === 'report.html');
  write($('file-count'), number(recording.files.length));
  replace($('files'), others, () => others.map(({ path, size_bytes }) => {
    const file = make('a', { href: stored(id, path) }, path);
    guardLink(file);
    return make('li', {}, file, make('small', {}, sayBytes(size_bytes)));
  }));
}

function allow(working) {
  const open = isOpen(recording.state);
  $('process').disabled = recording.state === 'recording' || working;
  write($('process'), say(recording.photos ? 'process.again' : 'process'));
  $('geotag').hidden = $('upload').parentElement.hidden = !recording.photos;
  $('geotag').disabled = $('upload').disabled = working;
  $('upload').parentElement.toggleAttribute('data-disabled', working);
  $('delete').disabled = open || working;
  $('download').hidden = open || working;
  write($('download'), `${say('download')} (${sayBytes(recording.size_bytes)})`);
}

/** Columns of the table of photos as arrays by name. */
const byName = ({ columns, rows }) => Object.fromEntries(columns.map((name, at) => [name, rows.map((values) => values[at])]));

async function load() {
  const key = JSON.stringify([recording.summary, recording.photos]);
  if (key === loaded) return;
  const [table, track] = await Promise.all([ask(`${root}/photos`, { timeout: LONG_MS }), ask(`${root}/track`, { timeout: LONG_MS })]);
  loaded = key;
  data = { photos: byName(table), track };
  const count = data.photos.photo.length, has = track.utc_ms.length;
  $('map-section').hidden = !has;
  $('time-section').hidden = !has && !count;
  $('photos-section').hidden = $('plots-section').hidden = !count;
  $('scrub-label').hidden = !count;
  $('scrub').max = Math.max(0, count - 1);
  write($('photo-count'), number(count));
  map.show(track, data.photos);
  showLegend(track);
  showTimeline($('timeline'), track, data.photos);
  photos.show(data.photos);
  if (count) { showPlots(); photos.choose(0); }
}

function showLegend({ quality }) {
  const seen = QUALITIES.filter(({ holds }) => quality.some(holds));
  $('legend').replaceChildren(...seen.map(({ key, colour, dash }) => make('li', {}, line(colour, dash), say(key))));
}

function line(colour, dash) {
  const element = make('i', { 'aria-hidden': 'true' });
  Object.assign(element.style, { borderColor: colour, borderTopStyle: dash.length ? (dash[0] > 4 ? 'dashed' : 'dotted') : 'solid' });
  return element;
}

function showPlots() {
  const kinds = [['time_error_ms', 'plot.time', 1], ['position_sigma_m', 'plot.position', 3], ['fix_dt_ms', 'plot.fix', 0], ['sharpness', 'plot.sharpness', 0]];
  const wanted = kinds.filter(([name]) => data.photos[name].some((value) => value != null));
  $('plots').replaceChildren(...wanted.map(([name, key, digits]) => plot(data.photos.utc_ms, data.photos[name].map((value) => value == null ? null : Math.abs(value)), say(key), digits)));
}

function showChosen(index) {
  $('scrub').value = index;
  $('scrub').setAttribute('aria-valuetext', photos.name(index));
  $('chosen').replaceChildren(...photos.describe(index));
}

async function look() {
  const { jobs } = await ask('/api/jobs');
  const mine = jobs.filter((job) => job.recording === id).slice(0, 3);
  replace($('jobs'), mine, () => mine.map((job) => showJob(job, { [id]: $('title').textContent })));
  const done = JSON.stringify(jobs.filter(({ finished }) => finished).map((job) => job.id));
  if (done !== ended || isOpen(recording?.state) || !recording?.summary) {
    ({ recording } = await ask(root, { timeout: LONG_MS }));
    ended = done;
    showFacts();
    showFiles();
    await load();
  }
  allow(mine.some(({ finished }) => !finished));
}

async function work(path, body, timeout) {
  await attempt(() => ask(`${root}/${path}`, { method: 'POST', body, timeout }));
  await turn();
}

$('process').addEventListener('click', () => work('process', { every: $('every').value }));
$('geotag').addEventListener('click', () => work('geotag'));
$('upload').addEventListener('change', async () => {
  if (!await attempt(allowed)) return;
  const body = new FormData();
  body.append('positions', $('upload').files[0]);
  await work('geotag', body, UPLOAD_TIMEOUT_MS);
  $('upload').value = '';
});
$('delete').addEventListener('click', () => attempt(async () => {
  photos.rest(); // no picture is asked for while its file moves away
  await ask(root, { method: 'DELETE' }).catch((error) => { photos.draw(); throw error; });
  location.href = `/recordings?deleted=${id}`;
}));
$('texts-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  await attempt(async () => {
    const changed = await ask(root, { method: 'PATCH', body: { name: $('name').value, note: $('note').value } });
    write($('title'), changed.recording.name || id);
    toast(say('saved'));
  });
});
$('scrub').addEventListener('input', () => photos.choose(Number($('scrub').value)));
$('zoom-in').addEventListener('click', () => map.zoom(1.6));
$('zoom-out').addEventListener('click', () => map.zoom(1 / 1.6));
guardLink($('download'));
guardLink($('report'));
new ResizeObserver(() => { map.draw(); if (data) showTimeline($('timeline'), data.track, data.photos); }).observe($('recording'));
const turn = follow(look, POLL_MS);
