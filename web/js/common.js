// What all pages share: words, figures, elements, and asking the Pi.

export const texts = JSON.parse(document.getElementById('texts').textContent);
export const language = document.documentElement.lang;
export const $ = (id) => document.getElementById(id);

const OFFLINE_AFTER_MS = 3000;
let answeredAt = performance.now();

/** The words of a key, with its {gaps} filled. */
export function say(key, gaps = {}) {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => gaps[name] ?? '');
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

/** Figures in a row, which breaks between them only. */
export const row = (parts) => parts.filter(Boolean).map((part) => part.replaceAll(' ', '\u00a0')).join(' · ');

export function sayDate(iso) {
  const date = new Date(iso);
  if (!iso || Number.isNaN(date.getTime())) return iso ?? '–';
  return date.toLocaleString(language, { dateStyle: 'medium', timeStyle: 'short' });
}

/** Ask the Pi. Throws an Error with the words of its problem, or `unreachable` set. */
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
  const value = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw new Error([value?.detail ?? response.statusText, value?.cure].filter(Boolean).join(' – '));
  return value;
}

/** Show how long the Pi has been silent; called by each page's poll. */
export function watchSilence() {
  const silent = performance.now() - answeredAt;
  $('offline').hidden = silent < OFFLINE_AFTER_MS;
  write($('offline').lastElementChild, say('offline.text', { seconds: Math.round(silent / 1000) }));
  return silent >= OFFLINE_AFTER_MS;
}

let toastTimer;

/** A line at the bottom for some seconds, with one thing to do about it. */
export function toast(text, action = null, seconds = 6) {
  const button = action && make('button', { type: 'button', onclick: () => { $('toast').hidden = true; action.act(); } }, action.word);
  $('toast').replaceChildren(text, button ?? '');
  $('toast').hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $('toast').hidden = true; }, seconds * 1000);
}

/** Do something and say what went wrong. */
export async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    toast(`${say('failed')}: ${error.message}`, null, 10);
    return undefined;
  }
}

/** Move a recording to the trash and offer to take it back. */
export async function trash({ id, name }, after) {
  await attempt(async () => {
    await ask(`/api/recordings/${id}`, { method: 'DELETE' });
    const act = () => attempt(async () => { await ask(`/api/recordings/${id}/restore`, { method: 'POST' }); after(); });
    toast(say('deleted', { name: name || id }), { word: say('undo'), act }, 10);
    after();
  });
}

export function showJob(job, names = {}) {
  const gaps = { percent: Math.round(job.progress * 100), error: job.error };
  const open = !['done', 'failed', 'cancelled'].includes(job.state);
  return make('li', { 'data-state': job.state },
    make('span', {}, say(`job.${job.kind}`, { recording: names[job.recording] || job.recording })),
    make('span', { class: 'word' }, say(`job.${job.state}`, gaps)),
    open && make('progress', { max: 1, value: job.progress }),
    open && make('button', { type: 'button', class: 'button quiet small', onclick: () => attempt(() => ask(`/api/jobs/${job.id}`, { method: 'DELETE', timeout: 20000 })) }, say('cancel')));
}

/** Call a function now, each `period` after it ended, and at once when the page is looked at again; never when hidden. */
export function poll(task, period) {
  let timer;
  const turn = async () => {
    clearTimeout(timer);
    if (document.hidden) return;
    await task();
    timer = setTimeout(turn, period);
  };
  document.addEventListener('visibilitychange', turn);
  turn();
  return turn;
}
