// The list of recordings: what each is worth at a glance, a filter, the trash.

import { $, ask, attempt, follow, isOpen, make, replace, row, say, sayBytes, sayDate, sayDuration, sayKm, sayMs, number, thumbnail, toast, write } from './core.js';

const POLL_MS = 3000, WAITING_MS = 1000, GOOD_MS = 60; // what a code filmed from a phone never measured gives
let recordings = [], trash = [];

const flags = ({ state, warnings, summary }) => [
  state === 'interrupted' && ['warn', 'recording.interrupted'],
  state === 'broken' && ['bad', 'recording.broken'],
  state === 'recording' && ['bad', 'recording.recording'],
  state === 'fetching' && ['', 'recording.fetching'],
  warnings.length && ['warn', 'flag.warnings', { count: warnings.length }],
  summary && !summary.fixes && ['warn', 'flag.no_position'],
].filter(Boolean);

function badges(recording) {
  const { summary, photos } = recording, found = flags(recording);
  if (summary?.time_error_ms != null) found.push([summary.time_error_ms < GOOD_MS ? 'ok' : '', 'badge.time', { ms: sayMs(summary.time_error_ms) }]);
  if (summary?.rtk_fixed_share != null) found.push([summary.rtk_fixed_share > 0.9 ? 'ok' : '', 'badge.rtk', { percent: number(summary.rtk_fixed_share * 100) }]);
  if (summary?.photos) found.push(['', 'badge.photos', { count: number(summary.photos) }]);
  else if (!photos && !isOpen(recording.state)) found.push(['', 'badge.unprocessed']);
  return found.map(([kind, key, gaps]) => make('span', { class: `badge ${kind}` }, say(key, gaps)));
}

function card(recording) {
  const { id, name, started, stopped, note, summary } = recording;
  const lasted = stopped && sayDuration((new Date(stopped) - new Date(started)) / 1000);
  const figures = row([lasted, summary?.distance_m != null && sayKm(summary.distance_m), summary && sayBytes(summary.size_bytes)]);
  return make('li', {},
    make('span', { class: 'head' }, make('a', { href: `/recordings/${id}`, class: 'title' }, name || sayDate(started))),
    make('span', {}, [name && sayDate(started), figures].filter(Boolean).join(' · ')),
    summary?.thumbnails.length ? make('span', { class: 'strip' }, ...summary.thumbnails.map((path) => make('img', { src: thumbnail(id, path), alt: '', loading: 'lazy', width: 320, height: 180 }))) : '',
    make('span', { class: 'badges' }, ...badges(recording)),
    note && make('small', {}, note));
}

const KINDS = { all: () => true, photos: ({ photos }) => photos, unprocessed: ({ photos, state }) => !photos && !isOpen(state), flagged: (recording) => flags(recording).length };

function show() {
  const words = $('words').value.toLocaleLowerCase(), kind = KINDS[$('kind').value];
  const shown = recordings.filter((recording) => kind(recording) && `${recording.id} ${recording.name} ${recording.note} ${sayDate(recording.started)}`.toLocaleLowerCase().includes(words));
  write($('count'), say('count', { shown: number(shown.length), all: number(recordings.length) }));
  replace($('recordings'), shown, () => (shown.length ? shown.map(card) : [make('li', {}, say(recordings.length ? 'recordings.filtered' : 'recordings.none'))]));
  $('trash-section').hidden = !trash.length;
  write($('trash-count'), number(trash.length));
  replace($('trash'), trash, () => trash.map((id) => make('li', {}, id, make('button', { type: 'button', class: 'button quiet small', 'aria-label': `${say('restore')} ${id}`, onclick: () => restore(id) }, say('restore')))));
}

const restore = (id) => attempt(async () => {
  await ask(`/api/recordings/${id}/restore`, { method: 'POST' });
  toast(say('restored'));
  await look();
});

async function look() {
  ({ recordings, trash } = await ask('/api/recordings', { timeout: 20000 }));
  show();
  if (recordings.some(({ summary, state }) => !summary && !isOpen(state))) setTimeout(turn, WAITING_MS);
}

/** What was deleted on its own page can be taken back here. */
function offerUndo() {
  const id = new URLSearchParams(location.search).get('deleted');
  if (!id) return;
  history.replaceState(null, '', '/recordings');
  toast(say('deleted', { name: id }), { word: say('undo'), act: () => restore(id) }, 15);
}

$('words').addEventListener('input', show);
$('kind').addEventListener('change', show);
document.querySelector('.filter').addEventListener('submit', (event) => event.preventDefault());
const turn = follow(look, POLL_MS);
offerUndo();
