// What all pages share: words, figures, elements, asking the Pi, the PIN, silence.

export const texts = JSON.parse(document.getElementById('texts').textContent);
export const language = document.documentElement.lang;
export const $ = (id) => document.getElementById(id);

const OFFLINE_AFTER_MS = 3000, BEAT_MS = 1000, BEAT_TIMEOUT_MS = 2500;
let answeredAt = performance.now(), shownAt = answeredAt, lastState = '';

/** The words of a key, with its {gaps} filled; of an unknown key the other words. */
export function say(key, gaps = {}, other = key) {
  return (texts[key] ?? other).replace(/\{(\w+)\}/g, (_, name) => gaps[name] ?? '');
}

/** An element with attributes and children; text is never read as HTML. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null && child !== '' && child !== false));
  return element;
}

/** Put words into an element, only when they are new: screen readers and selections stay calm. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Replace children, only when what they say is new, so that nothing is torn from under a finger. */
export function replace(element, key, build) {
  const now = JSON.stringify(key);
  if (element.dataset.key === now) return;
  element.dataset.key = now;
  element.replaceChildren(...build());
}

export const number = (value, digits = 0) =>
  value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

export function sayBytes(bytes) {
  const units = language === 'fr' ? ['o', 'ko', 'Mo', 'Go', 'To'] : ['B', 'kB', 'MB', 'GB', 'TB'];
  const step = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const value = bytes / 1000 ** step;
  return `${number(value, step && value < 100 ? 1 : 0)} ${units[step]}`;
}

/** Hours and minutes, or minutes and seconds. */
export function sayDuration(seconds) {
  const [h, m, s] = [seconds / 3600, (seconds % 3600) / 60, seconds % 60].map(Math.floor);
  const two = (value) => String(value).padStart(2, '0');
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

export function sayRoom(seconds) {
  const hours = Math.floor(seconds / 3600), minutes = Math.floor((seconds % 3600) / 60);
  if (hours >= 10) return `${number(hours)} h`;
  return hours ? `${hours} h ${String(minutes).padStart(2, '0')}` : `${minutes} min`;
}

export const sayMetres = (metres) => (metres < 1 ? `${number(metres * 100, metres < 0.1 ? 1 : 0)}\u00a0cm` : `${number(metres, 1)}\u00a0m`);
export const sayMs = (ms) => `${number(ms, ms < 10 ? 1 : 0)}\u00a0ms`;
export const sayKm = (metres) => `${number(metres / 1000, metres < 100000 ? 1 : 0)}\u00a0km`;

/** Figures in a row, which breaks between them only. */
export const row = (parts) => parts.filter(Boolean).map((part) => part.replaceAll(' ', '\u00a0')).join(' · ');

/** Date and time where this phone is; `long` says which zone that is. */
export function sayDate(iso, timeStyle = 'short') {
  const date = new Date(iso);
  if (!iso || Number.isNaN(date.getTime())) return iso ?? '–';
  return date.toLocaleString(language, { dateStyle: 'medium', timeStyle, hourCycle: 'h23' });
}

/** Ask the Pi; for the PIN first where it wants one. Throws an Error with its words, or `unreachable` set. */
export async function ask(path, { method = 'GET', body, timeout = 5000 } = {}) {
  const options = { method, cache: 'no-store', signal: AbortSignal.timeout(timeout) };
  if (body instanceof FormData) options.body = body;
  else if (body) Object.assign(options, { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } });
  let response;
  try {
    response = await fetch(path, options);
  } catch (cause) {
    throw Object.assign(new Error(say('state.offline'), { cause }), { unreachable: true });
  }
  answeredAt = performance.now();
  if (response.status === 401 && path !== '/api/session' && await askPin()) return ask(path, { method, body, timeout });
  const value = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw refusal(response, value ?? {});
  return value;
}

/** What was refused and why, each sentence once. */
function refusal({ status, statusText }, { detail, cure }) {
  const words = [say(`error.${status}`, {}, detail ?? statusText), detail, cure].filter(Boolean);
  return Object.assign(new Error([...new Set(words)].join(' – ')), { status });
}

let pinAnswer = null;

/** Ask the person for the PIN, once for all who want it; whether it was right. */
export function askPin() {
  pinAnswer ??= new Promise((resolve) => {
    const end = (good) => { $('pin-dialog').close(); pinAnswer = null; resolve(good); };
    $('pin').value = '';
    write($('pin-wrong'), '');
    $('pin-cancel').onclick = () => end(false);
    $('pin-dialog').oncancel = () => end(false);
    $('pin-form').onsubmit = async (event) => {
      event.preventDefault();
      try {
        await ask('/api/session', { method: 'POST', body: { pin: $('pin').value } });
        end(true);
      } catch (error) {
        write($('pin-wrong'), say(`error.${error.status}`, {}, error.message));
        $('pin').select();
      }
    };
    $('pin-dialog').showModal();
  });
  return pinAnswer;
}

/** Whether this browser may change and download; asks for the PIN where it is needed. */
export const allowed = async () => (await ask('/api/session')).allowed || askPin();

/** A link that downloads asks for the PIN before the browser goes there. */
export function guardLink(link) {
  link.addEventListener('click', async (event) => {
    event.preventDefault();
    if (await attempt(allowed)) location.href = link.href;
  });
}

/** What the overlay says of the last state. */
export function remember(words) { lastState = words; }

/** Show how long the Pi has been silent; called by each page's clock. */
export function watchSilence() {
  const now = performance.now();
  const silent = now - Math.max(answeredAt, shownAt) >= OFFLINE_AFTER_MS && !document.hidden;
  $('offline').hidden = !silent;
  if (silent) {
    const seconds = Math.round((now - answeredAt) / 1000);
    const [title, last, text] = $('offline').children;
    write(title, say('offline.title', { time: sayDuration(seconds) }));
    write(last, lastState && say('offline.last', { state: lastState }));
    write(text, say('offline.text'));
  }
  return silent;
}

document.addEventListener('visibilitychange', () => { shownAt = performance.now(); });

const said = $('toast');
let toastTimer;

/** A line above the buttons of the page, or of the dialog that covers it, for some seconds; with one thing to do about it. */
export function toast(text, action = null, seconds = 6) {
  const button = action && make('button', { type: 'button', onclick: () => { said.hidden = true; action.act(); } }, action.word);
  (document.querySelector('dialog[open] > footer') ?? $('bottom')).prepend(said);
  said.replaceChildren(make('span', {}, text), button ?? '');
  said.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { said.hidden = true; }, seconds * 1000);
}

/** Do something and say what went wrong. */
export async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    toast(say('failed', { why: error.message }), null, 10);
    return undefined;
  }
}

export const isOpen = (state) => ['recording', 'fetching'].includes(state);

/** A sign that says by its form too how something is. */
export const mark = (level) => make('span', { class: 'mark', 'aria-hidden': 'true' }, { ok: '✓', busy: '●', warning: '!', error: '✕', info: 'i' }[level] ?? '?');

const quoted = (path) => path.split('/').map(encodeURIComponent).join('/');
export const stored = (id, path) => `/api/recordings/${id}/files/${quoted(path)}`;
export const thumbnail = (id, path, width = 320) => `/api/recordings/${id}/thumbnails/${quoted(path)}?width=${width}`;

export function showJob(job, names = {}) {
  const gaps = { percent: Math.round(job.progress * 100), error: job.error };
  const open = !['done', 'failed', 'cancelled'].includes(job.state);
  const word = say(`job.${job.kind}`, { recording: names[job.recording] || job.recording });
  return make('li', { 'data-state': job.state },
    make('span', {}, word),
    make('span', { class: 'word' }, say(`job.${job.state}`, gaps)),
    open && make('progress', { max: 1, value: job.progress, 'aria-label': word }),
    open && make('button', { type: 'button', class: 'button quiet small', onclick: () => attempt(() => ask(`/api/jobs/${job.id}`, { method: 'DELETE', timeout: 20000 })) }, say('cancel')));
}

/** The page has what it needs to be seen. */
export const ready = () => document.querySelector('main').removeAttribute('data-waiting');

/** Look again and again: what goes wrong is said. Whether the Pi is there is asked beside: a look may be slow, and rare. */
export function follow(look, period) {
  setInterval(watchSilence, 500);
  poll(() => ask('/api/time', { timeout: BEAT_TIMEOUT_MS }).catch(() => null), BEAT_MS);
  return poll(() => look().catch((error) => { if (!error.unreachable) toast(error.message); }).finally(ready), period);
}

/** What a dialog that fills the screen begins with. */
export const head = (dialog, title, id) => make('header', {}, make('h2', { id }, title),
  make('button', { type: 'button', class: 'close', 'aria-label': say('close'), onclick: () => dialog.close() }, '✕'));

/** Call a function now, each `period` after it ended, and at once when the page is looked at again; never when hidden. */
export function poll(task, period) {
  let timer, running = null;
  const turn = () => {
    clearTimeout(timer);
    if (document.hidden) return undefined;
    running ??= task().finally(() => { running = null; timer = setTimeout(turn, period); });
    return running;
  };
  document.addEventListener('visibilitychange', turn);
  turn();
  return turn;
}
