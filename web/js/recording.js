// The page of one recording: its facts, its photos, its files, and what can be done with it.

import { $, ask, attempt, make, number, poll, replace, say, sayBytes, sayDate, sayDuration, showJob, toast, trash, write, watchSilence } from './common.js';

const { id } = $('recording').dataset;
const root = `/api/recordings/${id}`;
const POLL_MS = 1500, PHOTOS_AT_ONCE = 6, UPLOAD_TIMEOUT_MS = 600000;
let recording = null, shownPhotos = PHOTOS_AT_ONCE, ended = null;

const link = (path) => `${root}/files/${path.split('/').map(encodeURIComponent).join('/')}`;

function showFacts() {
  const { started, stopped, mode, state, cameras, receiver, size_bytes } = recording;
  const facts = [
    ['started', sayDate(started)],
    ['stopped', stopped && `${sayDate(stopped)} (${sayDuration((new Date(stopped) - new Date(started)) / 1000)})`],
    ['mode', mode && `${say(`mode.${mode}`)}, ${say(`recording.${state}`)}`],
    ['cameras', cameras.map(({ serial, model }) => `${model} ${serial}`).join(', ') || say('cameras.none')],
    ['epochs', receiver && number(receiver.epochs)],
    ['size', sayBytes(size_bytes)],
  ].filter(([, value]) => value);
  replace($('facts'), facts, () => facts.flatMap(([key, value]) => [make('dt', {}, say(key)), make('dd', {}, value)]));
  replace($('warnings'), recording.warnings, () => recording.warnings.map((text) => make('li', { 'data-level': 'warning' }, make('span', {}, text))));
}

function showPhotos() {
  const photos = recording.files.map(({ path }) => path).filter((path) => /^photos\/.*\.jpe?g$/i.test(path));
  $('photos-section').hidden = !photos.length;
  write($('photo-count'), number(photos.length));
  $('more').hidden = photos.length <= shownPhotos;
  const shown = photos.slice(0, shownPhotos);
  replace($('photos'), shown, () => shown.map((path) => make('a', { href: link(path) },
    make('img', { src: link(path), alt: path.split('/').pop(), loading: 'lazy', width: 320, height: 180 }))));
}

function showFiles() {
  const others = recording.files.filter(({ path }) => !path.startsWith('photos/'));
  replace($('files'), others, () => others.map(({ path, size_bytes }) => make('li', {},
    make('a', { href: link(path) }, path), make('small', {}, sayBytes(size_bytes)))));
}

function allow(working) {
  const open = ['recording', 'fetching'].includes(recording.state);
  $('process').disabled = recording.state === 'recording' || working;
  write($('process'), say(recording.photos ? 'process.again' : 'process'));
  $('geotag').disabled = $('upload').disabled = !recording.photos || working;
  $('upload').parentElement.toggleAttribute('data-disabled', $('upload').disabled);
  $('delete').disabled = open || working;
  $('download').hidden = open || working;
}

async function look() {
  try {
    const { jobs } = await ask('/api/jobs');
    const mine = jobs.filter((job) => job.recording === id).slice(0, 3);
    replace($('jobs'), mine, () => mine.map((job) => showJob(job)));
    const done = JSON.stringify(jobs.filter(({ finished }) => finished).map((job) => job.id));
    if (done !== ended || ['recording', 'fetching'].includes(recording?.state)) {
      ({ recording } = await ask(root));
      ended = done;
      showFacts();
      showPhotos();
      showFiles();
    }
    allow(mine.some(({ finished }) => !finished));
  } catch (error) {
    if (!error.unreachable) toast(error.message);
  }
}

async function work(path, body, timeout) {
  await attempt(() => ask(`${root}/${path}`, { method: 'POST', body, timeout }));
  await turn();
}

$('process').addEventListener('click', () => work('process', { every: $('every').value }));
$('geotag').addEventListener('click', () => work('geotag'));
$('upload').addEventListener('change', async () => {
  const body = new FormData();
  body.append('positions', $('upload').files[0]);
  await work('geotag', body, UPLOAD_TIMEOUT_MS);
  $('upload').value = '';
});
$('delete').addEventListener('click', () => trash(recording, () => { setTimeout(() => { if (!$('toast').hidden) location.href = '/'; }, 4000); }));
$('more').addEventListener('click', () => { shownPhotos += 4 * PHOTOS_AT_ONCE; showPhotos(); });
$('texts-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  await attempt(async () => {
    const changed = await ask(root, { method: 'PATCH', body: { name: $('name').value, note: $('note').value } });
    write($('title'), changed.recording.name || id);
    toast(say('saved'));
  });
});

const turn = poll(look, POLL_MS);
setInterval(watchSilence, 500);
