// The page of the drive: one look once a second, one button.

import { $, ask, attempt, make, number, poll, replace, row, say, sayBytes, sayDate, sayDuration, sayRoom, showJob, toast, trash, watchSilence, write } from './common.js';

const POLL_MS = 1000, HOLD_MS = 1000, ACTION_TIMEOUT_MS = 90000, MOST_PROBLEMS = 4;
const RUNS = ['recording', 'degraded'];
let status = null, busy = '', seen = '', recordings = [];
let clockOffset = null; // Date.now() of the phone to the Pi's UTC

// --- Showing -----------------------------------------------------------------------------------------------------

function showState() {
  const offline = watchSilence();
  if (!status) return;
  const state = busy || status.state;
  $('bar').dataset.state = offline ? 'offline' : state;
  write($('state'), say(offline ? 'state.offline' : `state.${state}`));
  document.title = `${say(`state.${state}`)} – ${say('app')}`;
  const runs = RUNS.includes(state);
  $('main').dataset.does = runs ? 'stop' : 'start';
  $('main').disabled = offline || Boolean(busy) || !(runs || state === 'idle');
  if (!holding) write($('main-word'), say(runs ? 'stop' : state === 'idle' ? 'start' : state));
  write($('elapsed'), status.recording ? sayDuration(status.recording.elapsed_s) : '');
  $('options').hidden = state !== 'idle';
}

function showClock() {
  if (clockOffset === null) return;
  write($('clock'), new Date(Date.now() + clockOffset).toLocaleTimeString(document.documentElement.lang, { hour12: false }));
  const { source, sigma_ms } = status.time;
  write($('clock-source'), `${say(`time.${source}`)}${source === 'gnss' ? ` ±${number(sigma_ms)} ms` : ''}`);
}

function showProblems() {
  const rank = { error: 0, warning: 1, info: 2 };
  const worst = [...status.problems].sort((a, b) => rank[a.level] - rank[b.level]).slice(0, MOST_PROBLEMS);
  replace($('problems'), worst.map(({ code, text }) => [code, text]), () => worst.map(({ code, level, text, cure, subject }) => {
    const known = say(`problem.${code}`) !== `problem.${code}`;
    const detail = /\((.+)\)$/.exec(text)?.[1];
    return make('li', { 'data-level': level },
      make('strong', {}, known ? say(`problem.${code}`, { subject }) : [subject, text].filter(Boolean).join(': ')),
      make('span', {}, known ? say(`cure.${code}`) : cure),
      known && detail && make('small', {}, detail));
  }));
}

function describeCamera(camera) {
  const parts = [];
  if (camera.battery_percent != null) parts.push(say('camera.battery', { percent: camera.battery_percent }));
  if (camera.card_seconds_left != null) parts.push(say('camera.card', { time: sayRoom(camera.card_seconds_left) }));
  if (camera.fps) parts.push(say('camera.fps', { fps: number(camera.fps, 1) }));
  if (camera.lost_datagrams) parts.push(say('camera.drops', { count: number(camera.lost_datagrams) }));
  if (camera.delay_ms != null) parts.push(say('camera.delay', { ms: number(camera.delay_ms) }));
  if (camera.state === 'fetching') parts.push(say('camera.fetched', { done: sayBytes(camera.fetched_bytes), total: sayBytes(camera.fetch_total_bytes) }));
  return row(parts);
}

/** What a camera reads of the time code, with what to do when it reads none. */
function describeCode({ calibration }) {
  if (!calibration) return '';
  const { codes, error_ms, done, hint, problem } = calibration;
  const parts = [codes ? say('code.read', { count: number(codes) }) : say('code.unread')];
  if (codes && error_ms != null) parts.push(`±${number(error_ms, 1)} ms`);
  if (done) parts.push(say('code.done'));
  return [row(parts), hint && say(`hint.${problem || 'none_seen'}`)].filter(Boolean).join(' – ');
}

const nameOf = (camera) => camera.label || camera.serial.slice(-4);

function showDevices() {
  const { cameras, receiver, storage, calibrating } = status;
  const word = ({ state }) => say(calibrating && !status.recording && state === 'streaming' ? 'camera.calibrating' : `camera.${state}`);
  replace($('cameras'), cameras.map((camera) => [nameOf(camera), word(camera), describeCamera(camera), describeCode(camera)]), () => cameras.length
    ? cameras.map((camera) => make('li', { 'data-state': camera.state },
      make('span', { class: 'figure' }, word(camera)),
      make('span', { class: 'name' }, nameOf(camera), ' ', make('small', {}, camera.model)),
      make('span', { class: 'details' }, describeCamera(camera)),
      make('span', { class: 'code', 'data-done': camera.calibration?.done }, describeCode(camera))))
    : [make('li', { 'data-state': 'lost' }, make('span', { class: 'figure' }, say('cameras.none')))]);
  const listening = receiver.state === 'listening';
  $('quality').dataset.quality = listening ? receiver.quality : 'none';
  write($('quality'), say(listening ? `quality.${receiver.quality}` : `receiver.${receiver.state}`));
  const parts = [];
  if (receiver.sigma_m != null) parts.push(say('receiver.sigma', { metres: number(receiver.sigma_m, receiver.sigma_m < 1 ? 2 : 1) }));
  if (receiver.satellites != null) parts.push(say('receiver.satellites', { count: receiver.satellites }));
  if (receiver.fix_age_s > 2) parts.push(say('receiver.age', { seconds: number(receiver.fix_age_s) }));
  if (receiver.correction_age_s != null) parts.push(say('receiver.corrections', { seconds: number(receiver.correction_age_s) }));
  if (receiver.rate_hz != null) parts.push(say('receiver.rate', { hz: number(receiver.rate_hz) }));
  write($('receiver'), row(parts));
  write($('left'), row([say('storage.left', { time: sayRoom(storage.seconds_left) })]));
  write($('free'), say('storage.free', { size: sayBytes(storage.bytes_free) }));
}

function showJobs() {
  const names = Object.fromEntries(recordings.map(({ id, name }) => [id, name]));
  $('jobs-section').hidden = !status.jobs.length;
  replace($('jobs'), status.jobs, () => status.jobs.map((job) => showJob(job, names)));
}

function showRecordings() {
  const working = new Set(status.jobs.map((job) => job.recording));
  replace($('recordings'), [recordings, [...working]], () => recordings.length
    ? recordings.map((recording) => showRecording(recording, working.has(recording.id)))
    : [make('li', { class: 'empty' }, say('recordings.none'))]);
}

function showRecording(recording, working) {
  const { id, name, state, started, stopped, photos } = recording;
  const open = ['recording', 'fetching'].includes(state);
  const lasted = stopped && sayDuration((new Date(stopped) - new Date(started)) / 1000);
  const words = [sayDate(started), lasted, recording.mode && say(`mode.${recording.mode}`), photos && say('recording.photos')];
  return make('li', { 'data-state': state },
    make('a', { href: `/recordings/${id}`, class: 'title' }, name || id),
    make('span', { class: 'badge' }, say(`recording.${state}`)),
    make('span', { class: 'details' }, row(words)),
    state !== 'recording' && make('span', { class: 'actions' },
      make('button', { type: 'button', class: 'button small', disabled: working, onclick: () => process(id) }, say(photos ? 'process.again' : 'process')),
      !open && !working && make('a', { class: 'button quiet small', href: `/api/recordings/${id}/download`, download: true }, say('download')),
      make('button', { type: 'button', class: 'button danger small', disabled: open || working, onclick: () => trash(recording, refresh) }, say('delete'))));
}

// --- Live pictures: while streams are recorded and somebody sees them ------------------------------------------------

const PICTURE_TIMEOUT_MS = 7000, OLD_PICTURE_MS = 3000;
const pictures = new Map(); // serial -> { figure, image, words, asking, at }

function showPictures() {
  const live = status?.recording?.mode === 'video' ? status.cameras.filter(({ records }) => records) : [];
  for (const [serial, { figure, image }] of pictures) {
    if (live.some((camera) => camera.serial === serial)) continue;
    URL.revokeObjectURL(image.src);
    figure.remove();
    pictures.delete(serial);
  }
  $('pictures').hidden = !live.length;
  for (const camera of live) askPicture(camera);
}

function pictureOf(serial) {
  if (!pictures.has(serial)) {
    const image = make('img', { alt: '', hidden: true }), words = make('figcaption');
    const figure = $('pictures').appendChild(make('figure', {}, image, words));
    pictures.set(serial, { figure, image, words, asking: false, at: null });
  }
  return pictures.get(serial);
}

async function askPicture(camera) {
  const picture = pictureOf(camera.serial);
  if (picture.asking || document.hidden) return;
  picture.asking = true;
  try {
    const url = `/api/cameras/${encodeURIComponent(camera.serial)}/preview.jpg?wait`;
    const response = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout(PICTURE_TIMEOUT_MS) });
    if (response.ok) {
      picture.at = performance.now() - Number(response.headers.get('X-Picture-Age-Ms'));
      URL.revokeObjectURL(picture.image.src);
      picture.image.src = URL.createObjectURL(await response.blob());
      picture.image.hidden = false;
      picture.image.alt = say('picture', { camera: nameOf(camera) });
    }
  } catch { // its age says so
  } finally {
    picture.asking = false;
  }
  const age = picture.at === null ? null : performance.now() - picture.at;
  picture.figure.toggleAttribute('data-old', age === null || age > OLD_PICTURE_MS);
  write(picture.words, row([nameOf(camera), age === null ? say('picture.none') : say('picture.age', { seconds: number(age / 1000, 1) })]));
}

// --- Asking ------------------------------------------------------------------------------------------------------

async function look() {
  try {
    const sent = Date.now();
    status = await ask('/api/status', { timeout: 2500 });
    clockOffset = Date.parse(status.time.utc) - (sent + Date.now()) / 2;
    showProblems();
    showDevices();
    showPictures();
    await lookAtRecordings();
    showJobs();
  } catch (error) {
    if (!error.unreachable) throw error;
  } finally {
    showState();
  }
}

/** The list is long: it is asked for only when something that is in it has changed. */
async function lookAtRecordings(force = false) {
  const now = JSON.stringify([status.state, status.recording?.id, status.problems.filter(({ code }) => code === 'fetching').length, status.jobs.map(({ id }) => id)]);
  if (now === seen && !force) return;
  ({ recordings } = await ask('/api/recordings'));
  seen = now;
  showRecordings();
}

const refresh = () => attempt(() => lookAtRecordings(true));

// --- Doing -------------------------------------------------------------------------------------------------------

async function act(state, path, body) {
  busy = state;
  showState();
  navigator.vibrate?.(80);
  await attempt(() => ask(path, { method: 'POST', body, timeout: ACTION_TIMEOUT_MS }));
  busy = '';
  navigator.vibrate?.([80, 80, 80]);
  await turn();
}

function start() {
  const body = { mode: $('mode').value, name: $('name').value.trim() };
  if ($('positions-only').checked) body.allow = 'positions-only';
  $('name').value = '';
  $('options').open = false;
  return act('starting', '/api/start', body);
}

const stop = () => act('stopping', '/api/stop');

async function process(id) {
  await attempt(() => ask(`/api/recordings/${id}/process`, { method: 'POST' }));
  await turn();
}

// --- The one button: a touch starts, a second's hold stops ---------------------------------------------------------

let holding = null, used = false; // used: this touch has stopped a recording, and must not start the next one when it ends

function release() {
  clearTimeout(holding);
  holding = null;
  $('main').classList.remove('holding');
  showState();
}

$('main').addEventListener('pointerdown', () => {
  used = false;
  if ($('main').dataset.does !== 'stop') return;
  $('main').classList.add('holding');
  write($('main-word'), say('stop.holding'));
  holding = setTimeout(() => { used = true; release(); stop(); }, HOLD_MS);
});
for (const event of ['pointerup', 'pointerleave', 'pointercancel']) $('main').addEventListener(event, () => holding && release());
$('main').addEventListener('contextmenu', (event) => event.preventDefault());
$('main').addEventListener('click', (event) => {
  if (used) used = false;
  else if ($('main').dataset.does === 'start') start();
  else if (event.detail === 0) stop(); // a keyboard or a screen reader, which does not slip
  else toast(say('stop'));
});

const turn = poll(look, POLL_MS);
setInterval(() => { if (status) { showClock(); showState(); } }, 500);
