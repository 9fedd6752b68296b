// The page of the drive: one look once a second, one button.

import { $, ask, attempt, make, mark, number, poll, remember, replace, row, say, sayBytes, sayDuration, sayMetres, sayMs, sayRoom, showJob, toast, watchSilence, write } from './core.js';
import * as guide from './guide.js';
import * as sound from './sound.js';

const POLL_MS = 1000, HOLD_MS = 1000, ACTION_TIMEOUT_MS = 90000, MOST_PROBLEMS = 3;
const RUNS = ['recording', 'degraded'];
const GENERAL = ['camera', 'receiver']; // what they are about only their words say
const RANK = { error: 0, warning: 1, info: 2 };
let status = JSON.parse($('status').textContent), busy = '', known = null, wasOffline = false;
let clockOffset = null; // Date.now() of the phone to the Pi's UTC
let elapsedAt = performance.now(); // when the Pi said how old the recording is

// --- Showing -----------------------------------------------------------------------------------------------------

const stateNow = () => busy || status.state;
const elapsed = () => status.recording.elapsed_s + (RUNS.includes(status.state) ? (performance.now() - elapsedAt) / 1000 : 0);

function showState() {
  const offline = watchSilence(), state = stateNow(), runs = RUNS.includes(state);
  if (offline && !wasOffline) sound.play('alarm');
  wasOffline = offline;
  $('bar').dataset.state = offline ? 'offline' : state;
  write($('state'), say(offline ? 'state.offline' : `state.${state}`));
  document.title = `${say(`state.${state}`)} – ${say('app')}`;
  $('main').dataset.does = runs ? 'stop' : 'start';
  $('main').disabled = offline || Boolean(busy) || !(runs || state === 'idle');
  if (!holding) write($('main-word'), say(runs ? 'stop' : state === 'idle' ? 'start' : state));
  write($('elapsed'), status.recording && !offline ? sayDuration(elapsed()) : '');
  write($('main-why'), state === 'idle' && !status.cameras.length ? say('start.no_camera') : '');
  $('guide-open').hidden = state !== 'idle';
  if (!offline) remember([say(`state.${state}`), status.recording && sayDuration(status.recording.elapsed_s)].filter(Boolean).join(' · '));
}

function showClock() {
  if (clockOffset === null) return;
  write($('clock'), new Date(Date.now() + clockOffset).toLocaleTimeString(document.documentElement.lang, { hourCycle: 'h23' }));
  const { source, sigma_ms } = status.time;
  write($('clock-source'), `${say(`time.${source}`)}${source === 'gnss' ? ` ±${sayMs(sigma_ms)}` : ''}`);
}

function showProblems() {
  const all = [...status.problems].sort((a, b) => RANK[a.level] - RANK[b.level]);
  const worst = all.slice(0, MOST_PROBLEMS);
  replace($('problems'), [worst, all.length], () => worst.map(({ code, level, text, cure, subject }, at) => {
    const isKnown = say(`problem.${code}`) !== `problem.${code}`;
    const detail = GENERAL.includes(code) ? `${text} – ${cure}` : /\((.+)\)$/.exec(text)?.[1];
    const more = at === MOST_PROBLEMS - 1 && all.length - MOST_PROBLEMS;
    return make('li', { 'data-level': level },
      make('strong', {}, isKnown ? say(`problem.${code}`, { subject: nameSubject(subject) }) : text),
      make('span', {}, isKnown ? say(`cure.${code}`) : cure),
      isKnown && detail && make('small', { lang: 'en' }, detail),
      more > 0 && make('a', { href: '/settings' }, say('problems.more', { count: more })));
  }));
  const errors = new Set(status.problems.filter(({ level }) => level === 'error').map(({ code, subject }) => code + subject));
  if (known && [...errors].some((one) => !known.has(one)) && status.recording) sound.play('alarm');
  known = errors;
}

const nameOf = (camera) => camera.label || camera.serial.slice(-4);

/** A problem's subject as the crew calls it: the camera's name for its serial number. */
function nameSubject(subject) {
  const camera = status.cameras.find(({ serial }) => serial === subject);
  return camera ? nameOf(camera) : subject;
}

const cameraLevel = ({ state, records, battery_percent, problems }) => {
  if (state === 'lost' || (records && state === 'idle')) return 'error';
  if (['connecting', 'starting', 'fetching'].includes(state)) return 'info';
  if (problems.length || (battery_percent != null && battery_percent < 20)) return 'warning';
  return ['streaming', 'recording'].includes(state) ? 'busy' : 'ok';
};

function cameraWord({ state }) {
  return say(status.calibrating && !status.recording && state === 'streaming' ? 'camera.calibrating' : `camera.${state}`, {}, state);
}

const describeCamera = (camera) => row([
  camera.battery_percent != null && say('camera.battery', { percent: camera.battery_percent }),
  camera.card_seconds_left != null && say('camera.card', { time: sayRoom(camera.card_seconds_left) }),
  camera.fps && say('camera.fps', { fps: number(camera.fps, 1) }),
  camera.lost_datagrams && say('camera.drops', { count: number(camera.lost_datagrams) }),
  camera.delay_ms != null && say('camera.delay', { ms: number(camera.delay_ms) }),
  camera.state === 'fetching' && say('camera.fetched', { done: sayBytes(camera.fetched_bytes), total: sayBytes(camera.fetch_total_bytes) }),
]);

/** What a camera reads of the time code, with what to do when it reads none. */
function describeCode({ calibration }) {
  if (!calibration) return '';
  const { codes, error_ms, done, hint, problem } = calibration;
  const words = done ? `✓ ${say('code.read')}` : codes ? say('code.some', { count: number(codes) }) : say('code.unread');
  const read = codes && error_ms != null ? `${words} · ±${sayMs(error_ms)}` : words;
  return [read, !done && hint && say(`hint.${problem || 'none_seen'}`, {}, hint)].filter(Boolean).join(' – ');
}

const card = ({ title, aside, level, figure, details, code, wide }) => make('article', { class: wide ? 'card wide' : 'card', 'data-level': level },
  make('h2', {}, make('span', {}, title, aside && make('small', {}, ` ${aside}`)), mark(level)),
  make('p', { class: 'figure' }, figure),
  details && make('p', { class: 'details' }, details),
  code && make('p', { class: 'code-line' }, code));

function cameraCards() {
  if (!status.cameras.length) return [{ title: say('cameras'), level: 'error', figure: say('cameras.none'), details: say('cure.no_camera'), wide: true }];
  return status.cameras.map((camera) => ({
    title: nameOf(camera), aside: camera.model.replace(' Black', ''), level: cameraLevel(camera), figure: cameraWord(camera), details: describeCamera(camera), code: describeCode(camera),
    wide: status.cameras.length === 1,
  }));
}

function positionCard() {
  const { receiver } = status, listening = receiver.state === 'listening';
  const good = receiver.quality.startsWith('RTK fixed'), some = receiver.latitude != null;
  const details = row([
    receiver.sigma_m != null && `±${sayMetres(receiver.sigma_m)}`,
    receiver.satellites != null && say('receiver.satellites', { count: receiver.satellites }),
    receiver.cn0_dbhz != null && say('receiver.cn0', { strength: number(receiver.cn0_dbhz) }),
    receiver.fix_age_s != null && say('receiver.age', { seconds: number(receiver.fix_age_s, 1) }),
    receiver.correction_age_s != null && say('receiver.corrections', { seconds: number(receiver.correction_age_s) }),
  ]);
  return {
    title: say('position'), level: !listening ? 'error' : good ? 'ok' : some ? 'warning' : 'error', details,
    figure: say(listening ? `quality.${receiver.quality}` : `receiver.${receiver.state}`, {}, receiver.quality),
  };
}

function storageCard() {
  const { seconds_left, bytes_free } = status.storage;
  const level = status.problems.find(({ code }) => code === 'little_room')?.level ?? 'ok';
  return { title: say('storage'), level, figure: sayRoom(seconds_left), details: row([say('storage.free', { size: sayBytes(bytes_free) })]) };
}

function timeCard() {
  const { source, sigma_ms } = status.time, isExact = source === 'gnss';
  const sayError = ({ error_ms }) => (error_ms == null ? '–' : `±${sayMs(error_ms)}`);
  const read = status.cameras.filter(({ calibration }) => calibration).map((camera) => `${nameOf(camera)} ${sayError(camera.calibration)}`);
  return {
    title: say('time'), level: isExact ? 'ok' : 'warning', figure: isExact ? `±${sayMs(sigma_ms)}` : say('time.system'),
    details: row([say(`time.from.${source}`), ...read]), wide: true,
  };
}

function showDevices() {
  const cards = [...cameraCards(), positionCard(), storageCard(), timeCard()];
  replace($('cards'), cards, () => cards.map(card));
}

function showJobs() {
  $('jobs-section').hidden = !status.jobs.length;
  replace($('jobs'), status.jobs, () => status.jobs.map((job) => showJob(job)));
}

// --- Live pictures: while streams run and somebody sees them ---------------------------------------------------------

const PICTURE_TIMEOUT_MS = 7000, OLD_PICTURE_MS = 2000, KEPT_PICTURE_MS = 60000, LOOK_S = 20;
const pictures = new Map(); // serial -> { image, asking, at }

const streams = (camera) => (status.recording ? status.recording.mode !== 'camera' && camera.records : status.calibrating && camera.state === 'streaming');

async function askPicture(camera) {
  const picture = pictures.get(camera.serial);
  if (picture.asking || document.hidden) return;
  picture.asking = true;
  try {
    const url = `/api/cameras/${encodeURIComponent(camera.serial)}/preview.jpg?wait`;
    const response = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout(PICTURE_TIMEOUT_MS) });
    if (response.status === 200) {
      picture.at = performance.now() - Number(response.headers.get('X-Picture-Age-Ms'));
      URL.revokeObjectURL(picture.image.src);
      picture.image.src = URL.createObjectURL(await response.blob());
      picture.image.hidden = false;
    }
  } catch { // its age says so
  } finally {
    picture.asking = false;
  }
}

/** A camera's newest picture as an element that stays the same. */
function pictureOf(camera) {
  if (!pictures.has(camera.serial)) pictures.set(camera.serial, { image: make('img', { alt: '', hidden: true }), asking: false, at: null });
  const picture = pictures.get(camera.serial), words = say('picture', { camera: nameOf(camera) });
  if (picture.image.alt !== words) picture.image.alt = words;
  return picture;
}

function sayAge(camera) {
  const { at } = pictureOf(camera);
  return at === null ? '' : say('picture.age', { seconds: number((performance.now() - at) / 1000, 1) });
}

function showPictures() {
  for (const picture of status.cameras.filter((camera) => !streams(camera)).map(pictureOf)) {
    if (picture.at !== null && performance.now() - picture.at > KEPT_PICTURE_MS) picture.at = null;
  }
  const live = status.cameras.filter(streams), idle = status.state === 'idle' && !status.calibrating;
  replace($('pictures'), [status.cameras.map((camera) => [camera.serial, nameOf(camera), streams(camera)]), idle, status.recording?.mode], () => [
    ...status.cameras.map((camera) => make('figure', { 'data-serial': camera.serial }, pictureOf(camera).image,
      make('span', { class: 'none' }), make('figcaption', {}, make('span', {}, nameOf(camera)), make('span', { class: 'age' })))),
    idle && status.cameras.length ? make('button', { type: 'button', class: 'button quiet small', onclick: lookNow }, say('picture.look')) : '',
  ]);
  for (const figure of $('pictures').querySelectorAll('figure')) {
    const camera = status.cameras.find(({ serial }) => serial === figure.dataset.serial), { at, image } = pictureOf(camera);
    const old = at === null || performance.now() - at > OLD_PICTURE_MS + (live.length ? POLL_MS : 0);
    figure.toggleAttribute('data-old', old && at !== null);
    image.hidden = at === null;
    const why = status.recording?.mode === 'camera' ? 'picture.card' : live.includes(camera) ? 'picture.coming' : 'picture.idle';
    write(figure.querySelector('.none'), at === null ? say(why) : '');
    write(figure.querySelector('.age'), sayAge(camera));
  }
  live.forEach(askPicture);
}

function lookNow() {
  const body = { seconds: LOOK_S };
  ask('/api/calibrate', { method: 'POST', body, timeout: 60000 }).catch((error) => toast(error.message)); // ends with the pictures
  return attempt(turn);
}

// --- Asking ------------------------------------------------------------------------------------------------------

function show() {
  showProblems();
  showDevices();
  showPictures();
  showJobs();
  guide.update(status, { nameOf, pictureOf, sayAge, describeCode });
}

async function look() {
  try {
    const sent = Date.now(), before = status.state;
    status = await ask('/api/status', { timeout: 2500 });
    elapsedAt = performance.now();
    clockOffset = Date.parse(status.time.utc) - (sent + Date.now()) / 2;
    if (!busy && RUNS.includes(before) !== RUNS.includes(status.state)) sound.play(RUNS.includes(status.state) ? 'start' : 'stop'); // another phone's doing
    if (before === 'recording' && status.state === 'degraded') sound.play('alarm');
    show();
  } catch (error) {
    if (!error.unreachable) throw error;
  } finally {
    showState();
  }
}

// --- Doing -------------------------------------------------------------------------------------------------------

async function act(state, path, body) {
  const isHere = document.activeElement === $('main');
  busy = state;
  showState();
  const done = await attempt(() => ask(path, { method: 'POST', body, timeout: ACTION_TIMEOUT_MS }));
  busy = '';
  if (done) {
    status.state = state === 'starting' ? 'recording' : 'idle';
    sound.play(state === 'starting' ? 'start' : 'stop');
  }
  await turn();
  if (isHere && document.activeElement === document.body) $('main').focus(); // it was lost while the button could not be used
  return done;
}

const start = (body) => act('starting', '/api/start', body);

async function stop() {
  const done = await act('stopping', '/api/stop');
  if (done?.recording) toast(say('stopped.saved'), { word: say('open'), act: () => { location.href = `/recordings/${done.recording.id}`; } }, 12);
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
  else if ($('main').dataset.does === 'start') guide.begin(status, start);
  else if (event.detail === 0) stop(); // a keyboard or a screen reader, which does not slip
  else toast(say('stop'));
});
$('guide-open').addEventListener('click', () => guide.open(status, start));
$('sound').addEventListener('click', () => { sound.wake(); sound.setOn(!sound.isOn()); showSound(); });

function showSound() {
  $('sound').setAttribute('aria-pressed', sound.isOn());
  write($('sound'), say(sound.isOn() ? 'sound.on' : 'sound.off'));
}

show();
$('more').hidden = false;
showSound();
showState();
const turn = poll(look, POLL_MS);
setInterval(() => { showClock(); showState(); }, 500);
