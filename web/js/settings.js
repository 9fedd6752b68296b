// What is missing for a recording and how to cure it; the cameras' settings.

import { $, ask, askPin, attempt, follow, make, mark, ready, replace, say, texts, toast, write } from './core.js';

const POLL_MS = 4000, SLOW_MS = 30000;
const SHOWN = ['resolution', 'fps', 'lens', 'webcam-lens', 'hypersmooth', 'anti-flicker', 'bit-rate'];
const LABELS = ['left', 'right', 'front', 'rear'];
let devices = [], cameras = [];

// --- Self-test ---------------------------------------------------------------------------------------------------

const level = ({ ok }) => (ok ? 'ok' : ok === null ? 'unknown' : 'error');

function step(check, device) {
  const isStep = `test.${check.code}` in texts; // else what the device says of itself
  const word = isStep ? say(`test.${check.code}`) : say(`problem.${check.code}`, { subject: device.name }, check.value);
  const value = isStep && check.value && (check.code === 'fix' ? say(`quality.${check.value}`, {}, check.value) : check.value);
  return make('li', { 'data-level': level(check) }, mark(level(check)),
    make('p', {}, word, value && ` · ${value.replace(/(\d) (?=[%hms])|(h) (?=\d)/g, '$1$2\u00a0')}`, make('span', { class: 'sr' }, ` ${say(`test.${level(check)}`)}`)),
    check.cure && make('p', {}, make('small', {}, say(`${isStep ? 'remedy' : 'cure'}.${check.code}`, {}, check.cure))));
}

function showDevices() {
  replace($('devices'), devices, () => devices.map((device) => make('li', {},
    make('h3', { 'data-level': device.ok ? 'ok' : 'error' }, mark(device.ok ? 'ok' : 'error'), `${say(`device.${device.kind}`)} ${device.name}`),
    make('ol', {}, ...device.checks.map((check) => step(check, device))))));
}

// --- Cameras -----------------------------------------------------------------------------------------------------

async function change(serial, body, done = 'saved') {
  await attempt(async () => {
    const { refused } = await ask(`/api/cameras/${encodeURIComponent(serial)}`, { method: 'PATCH', body, timeout: SLOW_MS });
    toast(refused.length ? say('refused', { what: refused.join(', ') }) : say(done), null, refused.length ? 12 : 6);
  });
  await attempt(() => look(true));
}

function chooser(camera, name, present, options) {
  const select = make('select', { onchange: () => change(camera.serial, { settings: [`${name}=${select.value}`] }) },
    !options.includes(present) && make('option', { value: '', disabled: true, selected: true }, present ?? '–'),
    ...options.map((option) => make('option', { value: option, selected: option === present }, option)));
  return make('label', {}, say(`setting.${name}`, {}, name), select);
}

function form(camera, known) {
  const label = make('input', { value: camera.label ?? '', maxlength: 40, autocomplete: 'off', list: 'labels' });
  const save = (event) => { event.preventDefault(); change(camera.serial, { label: label.value }); };
  const free = camera.state === 'idle';
  return make('section', { 'aria-label': camera.label || camera.serial },
    make('h3', {}, `${camera.label || camera.model} `, make('small', {}, camera.serial)),
    make('form', { onsubmit: save }, make('label', {}, say('label'), label), make('button', { class: 'button quiet', type: 'submit' }, say('save'))),
    known && free && make('button', { type: 'button', class: 'button go', onclick: () => change(camera.serial, { settings: ['recommended'] }, 'recommended.done') }, say('recommended')),
    known && free && make('form', {}, ...SHOWN.filter((name) => known.options[name]).map((name) => chooser(camera, name, known.settings[name], known.options[name]))),
    !free && make('p', {}, say('camera.in_use')));
}

async function showCameras(force) {
  const now = JSON.stringify(cameras.map(({ serial, label, state }) => [serial, label, state]));
  if ($('cameras').dataset.now === now && !force) return;
  if ($('cameras').contains(document.activeElement) && document.activeElement.tagName === 'INPUT' && !force) return;
  $('cameras').dataset.now = now;
  const known = await Promise.all(cameras.map(({ serial, state }) => (state === 'idle' ? ask(`/api/cameras/${encodeURIComponent(serial)}/settings`, { timeout: SLOW_MS }).catch(() => null) : null)));
  const list = make('datalist', { id: 'labels' }, ...LABELS.map((name) => make('option', { value: say(`label.${name}`) })));
  $('cameras').replaceChildren(list, ...(cameras.length ? cameras.map((camera, at) => form(camera, known[at])) : [make('p', {}, say('cure.no_camera'))]));
}

async function look(force = false) {
  ({ devices } = await ask('/api/selftest', { timeout: SLOW_MS }));
  ({ cameras } = await ask('/api/cameras'));
  showDevices();
  ready();
  await showCameras(force);
}

// --- The PIN -----------------------------------------------------------------------------------------------------

async function showLock() {
  if (!$('lock')) return;
  const { allowed } = await ask('/api/session');
  write($('pin-state'), say(allowed ? 'pin.open' : 'pin.shut'));
  write($('lock'), say(allowed ? 'pin.forget' : 'pin.give'));
  $('lock').onclick = async () => {
    await attempt(() => (allowed ? ask('/api/session', { method: 'DELETE' }) : askPin()));
    showLock();
  };
}

$('again').addEventListener('click', async () => { await turn(); toast(say('selftest.done')); });
const turn = follow(look, POLL_MS);
attempt(showLock);
