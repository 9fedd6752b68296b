// The guided start: how to record and the list of the day, the code for each camera, drive.

import { $, head, make, mark, replace, say, sayRoom, toast, write } from './core.js';
import { play } from './sound.js';

const MODES = JSON.parse($('modes').textContent);
const CHECKS = ['lens', 'mounts', 'cables', 'phone'];
const STEPS = ['prepare', 'code', 'drive'];
const dialog = $('guide');
const SEARCH_S = 60;
let step = 'prepare', status = null, start = null, words = null, ticked = new Set(), searching = null;

const today = () => new Date().toISOString().slice(0, 10);
const checked = () => { const [day, ...done] = (localStorage.getItem('checks') ?? '').split(' '); return new Set(day === today() ? done : []); };
const mode = () => (MODES.includes(localStorage.getItem('mode')) ? localStorage.getItem('mode') : MODES[0]);

/** The big button: the list first on the first drive of the day, else at once. */
export function begin(now, action) {
  if (localStorage.getItem('started') === today() && now.cameras.length) {
    [status, start] = [now, action];
    go();
  } else open(now, action);
}

export function open(now, action) {
  [status, start, step] = [now, action, 'prepare'];
  build();
  dialog.showModal();
}

async function go() {
  const body = { mode: mode(), name: $('guide-name')?.value.trim() ?? '' };
  if (!status.cameras.length) body.allow = 'positions-only';
  localStorage.setItem('started', today());
  if (!await startFrom(dialog.querySelector('.big'), body)) return;
  step = status.cameras.length ? 'code' : 'drive';
  ticked = new Set();
  if (step === 'drive') { finish(); return; }
  build();
  if (!dialog.open) dialog.showModal();
}

/** Start; a button that was touched for it says so meanwhile, and can be touched again where it was refused. */
async function startFrom(button, body) {
  if (!dialog.open) return start(body);
  button.disabled = true;
  write(button, say('starting'));
  const done = await start(body);
  button.disabled = false;
  write(button, say('guide.start'));
  if (!done) button.focus();
  return done;
}

function finish() {
  dialog.close();
  $('scroll').scrollTo(0, 0);
  toast(say('guide.bye'), null, 8);
}

function build() {
  const steps = make('ol', { class: 'steps', 'aria-label': say('guide.steps') }, ...STEPS.map((name, at) => make('li',
    { 'aria-current': name === step && 'step', 'data-done': at < STEPS.indexOf(step) }, say(`guide.step.${name}`))));
  const content = make('div', { tabindex: '0', role: 'group', 'aria-labelledby': 'guide-title' }, steps, ...(step === 'prepare' ? prepare() : code()));
  dialog.replaceChildren(head(dialog, say(`guide.${step}`), 'guide-title'), content, make('footer', {}, ...buttons()));
  if (dialog.open) content.focus(); // what had it is gone
  refresh();
}

function prepare() {
  const kept = checked();
  const choose = (name) => make('label', {},
    make('input', { type: 'radio', name: 'mode', value: name, checked: name === mode(), onchange: () => localStorage.setItem('mode', name) }),
    make('span', {}, say(`mode.${name}.long`, {}, name)),
    make('small', {}, say(`mode.${name}.why`, {}, '')));
  const keep = (name, isDone) => {
    kept[isDone ? 'add' : 'delete'](name);
    localStorage.setItem('checks', [today(), ...kept].join(' '));
  };
  const tick = (name) => make('li', {}, make('label', {},
    make('input', { type: 'checkbox', checked: kept.has(name), onchange: ({ target }) => keep(name, target.checked) }),
    make('span', {}, say(`check.${name}`))));
  return [
    make('fieldset', { class: 'modes' }, make('legend', {}, say('guide.mode')), ...MODES.map(choose)),
    make('h3', {}, say('guide.list')),
    make('ul', { class: 'checks', id: 'guide-devices' }),
    make('ul', { class: 'checks' }, ...CHECKS.map(tick)),
    make('label', {}, say('option.name'), make('input', { id: 'guide-name', maxlength: 200, autocomplete: 'off' })),
  ];
}

/** Whether nobody can see yet what the cameras film: it goes to their cards. */
const isBlind = () => (status.recording?.mode ?? mode()) === 'camera';

function code() {
  return [make('p', {}, say(isBlind() ? 'guide.code.card' : 'guide.code.how')), make('ul', { class: 'ticks', id: 'guide-ticks' }), make('p', {}, say('guide.code.where', { address: `${location.host}/qrcode` }))];
}

function buttons() {
  if (step === 'prepare') return [make('button', { type: 'button', class: 'button go big', onclick: go }, say('guide.start'))];
  return [
    make('a', { class: 'button quiet', href: '/qrcode' }, say('guide.code.here')),
    make('button', { type: 'button', class: 'button go big', id: 'guide-drive', onclick: finish }, say('guide.anyway')),
  ];
}

/** The devices' part of the list: what the Pi sees by itself. */
function devices() {
  const { cameras, receiver, time, storage, problems } = status;
  const answer = cameras.filter(({ state }) => state !== 'lost');
  const isPlaced = receiver.latitude != null, isExact = time.source === 'gnss';
  const isShort = problems.some(({ code }) => code === 'little_room');
  const low = cameras.filter(({ battery_percent }) => battery_percent != null && battery_percent < 20);
  return [
    [answer.length ? (low.length ? 'warning' : 'ok') : 'error', say('check.cameras', { count: answer.length }), answer.length ? low.length && say('check.cameras.low') : say('cure.no_camera')],
    [isPlaced ? 'ok' : 'error', say('position'), isPlaced ? say(`quality.${receiver.quality}`, {}, receiver.quality) : say(receiver.state === 'listening' ? 'cure.no_fix' : 'cure.no_receiver')],
    [isExact ? 'ok' : 'warning', say('check.time'), say(isExact ? 'time.from.gnss' : 'cure.time_unsure')],
    [isShort ? 'error' : 'ok', say('check.room', { time: sayRoom(storage.seconds_left) }), isShort && say('cure.little_room')],
  ];
}

function refresh() {
  if (step === 'prepare') {
    const rows = devices();
    replace($('guide-devices'), rows, () => rows.map(([level, text, why]) => make('li', { 'data-level': level }, mark(level), make('span', {}, text), make('small', {}, why || ''))));
  } else if (step === 'code' && words) showTicks();
}

/** Have the streams searched even where the phone with the code may not ask for it (it has no PIN). */
async function search() {
  searching = new AbortController();
  const options = { method: 'POST', body: JSON.stringify({ seconds: SEARCH_S }), signal: searching.signal };
  await fetch('/api/calibrate', options).catch(() => null);
  searching = null;
}

function showTicks() {
  const { nameOf, pictureOf, sayAge, describeCode } = words;
  if (isBlind()) { write($('guide-drive'), say('guide.shown')); return; }
  const cameras = status.cameras.filter(({ records }) => records);
  if (!searching && !status.calibrating && cameras.length && !cameras.some(({ calibration }) => calibration)) search();
  replace($('guide-ticks'), cameras.map((camera) => [camera.serial, nameOf(camera), camera.calibration?.done, pictureOf(camera).at === null]), () => cameras.map((camera) => make('li',
    { 'data-level': camera.calibration?.done ? 'ok' : 'info', 'data-serial': camera.serial },
    pictureOf(camera).at === null ? make('span', { class: 'none' }) : make('img', { alt: say('picture', { camera: nameOf(camera) }) }),
    make('strong', {}, mark(camera.calibration?.done ? 'ok' : 'info'), nameOf(camera)), make('span', { class: 'says', role: 'status' }), make('small', {}))));
  for (const item of $('guide-ticks').children) {
    const camera = cameras.find(({ serial }) => serial === item.dataset.serial), image = item.querySelector('img');
    write(item.querySelector('.says'), describeCode(camera) || say('code.unread'));
    write(item.querySelector('small'), sayAge(camera));
    if (image && image.src !== pictureOf(camera).image.src) image.src = pictureOf(camera).image.src;
    if (camera.calibration?.done && !ticked.has(camera.serial)) { ticked.add(camera.serial); play('tick'); }
  }
  write($('guide-drive'), say(cameras.length && cameras.every(({ calibration }) => calibration?.done) ? 'guide.go' : 'guide.anyway'));
}

dialog.addEventListener('close', () => searching?.abort());

/** What the page has just learnt. */
export function update(now, page) {
  [status, words] = [now, page];
  if (!dialog.open) return;
  if (step === 'code' && !now.recording) dialog.close(); // stopped, perhaps by another phone
  else refresh();
}
