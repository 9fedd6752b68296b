// Draws what report.html's data say, after language.js: no network, no libraries, two languages.

const DATA = JSON.parse(document.getElementById('data').textContent);
const PHOTOS = DATA.photos;
const QUALITIES = {4: 'fixed', 5: 'float', 2: 'dgnss', 1: 'single'};
const MINUTE_MS = 60000;
const CROWDED = 4; // pixels: of photos closer together one is drawn
const FAR = 1; // pixels a metre: from further away they stand on the track
const CLOSE = 12; // pixels a metre: nearer, photos are drawn where they were taken
const WORDS = {
  en: {
    photos: 'Photos', timeline: 'Time and position errors', clock: 'Camera clocks', sharpness: 'Sharpness',
    gaps: 'Breaks in the track', losses: 'Losses of the streams',
    fixed: 'RTK fixed', float: 'RTK float', dgnss: 'DGNSS', single: 'single', none: 'no fix',
    located: 'have a place', rtk: 'at RTK fixed', timeError: 'median time error', sigma: 'median position error (1 sigma)',
    sharpMedian: 'median sharpness:', duration: 'from first to last', distance: 'driven', damagedPictures: 'pictures of the streams damaged',
    empty: 'There are no photos.', fine: 'Nothing needs your attention.', attention: 'What needs your attention', messages: 'Messages of the programs',
    time: 'Time (UTC)', camera: 'Camera', place: 'Place', altitude: 'Altitude', fix: 'Fix', fixAway: 'Nearest fix', heading: 'Drives / looks', speed: 'Speed', flags: 'Notes', error: 'Position error',
    hermite: 'curve', linear: 'line', nearest: 'nearest fix only', unknown: 'not known', ahead: 'later', ago: 'earlier',
    map: 'Map of the track and the photos: arrow keys go from photo to photo', chart: 'Time error and position error over time: arrow keys go from photo to photo',
    timeAxis: 'time error ± ms', sigmaAxis: 'position 1 σ, m', fit: 'Show everything', in: 'Closer', out: 'Further away', before: 'Photo before', after: 'Photo after',
    noTrack: 'No photo has a place.', noGaps: 'The track holds together.', noLosses: 'No stream was recorded here.', noClock: 'There is no calibration.json here.', noSharpness: 'The sharpness was not measured.',
    from: 'From (UTC)', seconds: 'Seconds', why: 'Why', quality: 'quality changed:', silence: 'no fixes', pictures: 'Pictures', damaged: 'Damaged', errors: 'Packets missing',
    source: 'by', codes: 'codes read, rejected:', within: 'within', rate: 'runs', residual: 'Distance of each reading of the codes from the straight line, with its half-width',
    qr: 'time code', 'qr+arrival': 'time code and arrivals', arrival: 'arrivals', gpmf: 'GPS of the file', given: 'given by hand',
    'is-blurred': 'blurred', 'is-dark': 'dark', 'is-bright': 'over-exposed', 'is-damaged': 'damaged', 'is-standing': 'stands for a whole stop', 'is-no-fix-near': 'no fix near', 'is-live': 'made while recording',
    drive: 'check by the turns of the car:', agrees: 'agrees', alarm: 'does not agree',
    noPlace: (n) => `${n} photo${n > 1 ? 's have' : ' has'} no fix within ${DATA.maxGap} s: no place.`,
    onlyNearest: (n) => `${n} photo${n > 1 ? 's have' : ' has'} only the nearest fix, no place of ${n > 1 ? 'their' : 'its'} own instant.`,
    blurred: (n) => `${n} photo${n > 1 ? 's are' : ' is'} blurred.`, dark: (n) => `${n} photo${n > 1 ? 's are' : ' is'} dark: was the lens covered?`, bright: (n) => `${n} photo${n > 1 ? 's are' : ' is'} over-exposed.`, damagedPhotos: (n) => `${n} photo${n > 1 ? 's are' : ' is'} damaged by losses of the stream.`,
    notRtk: (p) => `${p} of the photos were taken without RTK fixed.`, wideTime: (ms) => `The time is only known within ± ${ms} ms. Show the code longer, at the start and at the end; measure the phone's display.`,
    longGap: (s, t) => `The receiver said nothing for ${s} s at ${t}.`, lossNote: (n, c) => `${c}: ${n} pictures of the stream are damaged.`,
    made: 'Made by edenCar. Errors: the time within its ± in 99 % of cases; the position is one sigma, the time’s share included.',
  },
  fr: {
    photos: 'Photos', timeline: 'Erreurs de temps et de position', clock: 'Horloges des caméras', sharpness: 'Netteté',
    gaps: 'Coupures de la trace', losses: 'Pertes des flux',
    fixed: 'RTK fixe', float: 'RTK flottant', dgnss: 'DGNSS', single: 'autonome', none: 'sans position',
    located: 'ont une position', rtk: 'en RTK fixe', timeError: 'erreur de temps médiane', sigma: 'erreur de position médiane (1 sigma)',
    sharpMedian: 'netteté médiane :', duration: 'de la première à la dernière', distance: 'parcourus', damagedPictures: 'images des flux abîmées',
    empty: 'Il n’y a pas de photos.', fine: 'Rien ne demande votre attention.', attention: 'Ce qui demande votre attention', messages: 'Messages des programmes (en anglais)',
    time: 'Heure (UTC)', camera: 'Caméra', place: 'Position', altitude: 'Altitude', fix: 'Solution', fixAway: 'Point le plus proche', heading: 'Roule / regarde', speed: 'Vitesse', flags: 'Remarques', error: 'Erreur de position',
    hermite: 'courbe', linear: 'droite', nearest: 'point le plus proche seulement', unknown: 'inconnue', ahead: 'plus tard', ago: 'plus tôt',
    map: 'Carte de la trace et des photos : les flèches passent d’une photo à l’autre', chart: 'Erreurs de temps et de position au cours du temps : les flèches passent d’une photo à l’autre',
    timeAxis: 'erreur de temps ± ms', sigmaAxis: 'position 1 σ, m', fit: 'Tout montrer', in: 'Plus près', out: 'Plus loin', before: 'Photo précédente', after: 'Photo suivante',
    noTrack: 'Aucune photo n’a de position.', noGaps: 'La trace est continue.', noLosses: 'Aucun flux n’a été enregistré ici.', noClock: 'Il n’y a pas de calibration.json ici.', noSharpness: 'La netteté n’a pas été mesurée.',
    from: 'Depuis (UTC)', seconds: 'Secondes', why: 'Pourquoi', quality: 'la qualité a changé :', silence: 'pas de position', pictures: 'Images', damaged: 'Abîmées', errors: 'Paquets perdus',
    source: 'par', codes: 'codes lus, rejetés :', within: 'à', rate: 'dérive', residual: 'Écart de chaque lecture des codes à la droite, avec sa demi-largeur',
    qr: 'code de temps', 'qr+arrival': 'code de temps et arrivées', arrival: 'arrivées', gpmf: 'GPS du fichier', given: 'donnée à la main',
    'is-blurred': 'floue', 'is-dark': 'sombre', 'is-bright': 'surexposée', 'is-damaged': 'abîmée', 'is-standing': 'seule photo d’un arrêt', 'is-no-fix-near': 'aucun point proche', 'is-live': 'faite pendant l’enregistrement',
    drive: 'contrôle par les virages de la voiture :', agrees: 'concorde', alarm: 'ne concorde pas',
    noPlace: (n) => `${n} photo${n > 1 ? 's n’ont' : ' n’a'} aucun point à moins de ${DATA.maxGap} s : pas de position.`,
    onlyNearest: (n) => `${n} photo${n > 1 ? 's n’ont' : ' n’a'} que le point le plus proche, sans position à l’instant même.`,
    blurred: (n) => `${n} photo${n > 1 ? 's sont floues' : ' est floue'}.`, dark: (n) => `${n} photo${n > 1 ? 's sont sombres' : ' est sombre'} : l’objectif était-il couvert ?`, bright: (n) => `${n} photo${n > 1 ? 's sont surexposées' : ' est surexposée'}.`, damagedPhotos: (n) => `${n} photo${n > 1 ? 's sont abîmées' : ' est abîmée'} par des pertes du flux.`,
    notRtk: (p) => `${p} des photos ont été prises sans RTK fixe.`, wideTime: (ms) => `L’heure n’est connue qu’à ± ${ms} ms. Montrez le code plus longtemps, au début et à la fin ; mesurez l’écran du téléphone.`,
    longGap: (s, t) => `Le récepteur n’a rien dit pendant ${s} s à ${t}.`, lossNote: (n, c) => `${c} : ${n} images du flux sont abîmées.`,
    made: 'Fait par edenCar. Erreurs : l’heure tient dans son ± dans 99 % des cas ; la position est à un sigma, part du temps comprise.',
  },
};

let chosen = PHOTOS.findIndex((photo) => photo.x !== undefined);
if (chosen < 0) chosen = 0;
const view = {x: 0, y: 0, scale: 1};

const byId = (id) => document.getElementById(id);
const say = (key) => WORDS[language][key] ?? key;
const colours = new Map(); // asking for a style takes longer than drawing with it
function colour(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return colours.get(name);
}
const qualityOf = (quality) => QUALITIES[quality] ?? 'none';
const sideOf = (camera) => (camera % 2 ? 'right' : 'left'); // of the car, as colours are called
const number = (value, digits = 0) => value.toLocaleString(language, {minimumFractionDigits: digits, maximumFractionDigits: digits});
const clock = (ms, digits = 0) => new Date(ms).toISOString().slice(11, digits ? 23 : 19);
const located = PHOTOS.filter((photo) => photo.x !== undefined);

// Of any number of values: a call takes only so many.
const smallest = (values) => values.reduce((a, b) => Math.min(a, b));
const largest = (values) => values.reduce((a, b) => Math.max(a, b));

function median(values) {
  const sorted = values.filter((value) => value !== undefined && value !== null).sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : null;
}

function element(tag, text = '', attributes = {}) {
  const made = document.createElement(tag);
  if (text !== '') made.textContent = bound(text);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function metres(value) {
  if (value >= 1000) return `${number(value / 1000, 2)} km`;
  return value < 1 ? `${number(value * 100, value < 0.1 ? 1 : 0)} cm` : `${number(value, 1)} m`;
}

// ---- words -------------------------------------------------------------------------------------------------------

function notes() {
  const found = [];
  const count = (test) => PHOTOS.filter(test).length;
  const flagged = (word) => count((photo) => (photo.flags ?? '').split(' ').includes(word));
  const lost = PHOTOS.length - located.length;
  if (!PHOTOS.length) found.push(['bad', say('empty')]);
  if (lost) found.push(['bad', say('noPlace')(lost)]);
  const nearest = located.filter((photo) => photo.interpolation === 'none').length;
  if (nearest) found.push(['', say('onlyNearest')(nearest)]);
  const loose = located.filter((photo) => photo.quality !== 4).length;
  if (loose) found.push(['', say('notRtk')(`${number(Math.ceil(100 * loose / located.length))} %`)]);
  const time = median(PHOTOS.map((photo) => photo.timeError));
  if (time > 20) found.push(['', say('wideTime')(number(time, 0))]);
  for (const [word, key] of [['damaged', 'damagedPhotos'], ['blurred', 'blurred'], ['dark', 'dark'], ['bright', 'bright']]) {
    if (flagged(word)) found.push(['', say(key)(flagged(word))]);
  }
  const longest = DATA.gaps.filter((gap) => gap.why === 'silence').sort((a, b) => b.seconds - a.seconds)[0];
  if (longest && longest.seconds > 2) found.push(['', say('longGap')(number(longest.seconds, 1), clock(longest.t))]);
  for (const loss of DATA.losses) if (loss.damaged) found.push(['', say('lossNote')(number(loss.damaged), cameraOf(loss.camera).name)]);
  return found;
}

function tellNotes() {
  const box = byId('notes');
  const found = notes();
  const state = found.some(([level]) => level === 'bad') ? 'bad' : found.length || DATA.messages.length ? '' : 'fine';
  box.className = `card notes ${state}`;
  box.replaceChildren();
  if (!found.length && !DATA.messages.length) return void box.append(element('p', `✓ ${say('fine')}`));
  if (found.length) {
    const list = element('ul');
    list.append(...found.map(([, text]) => element('li', text)));
    box.append(element('h2', say('attention')), list);
  }
  if (DATA.messages.length) {
    const more = element('details');
    const list = element('ul');
    list.append(...DATA.messages.map((text) => element('li', text, {lang: 'en'})));
    more.append(element('summary', `${say('messages')} (${DATA.messages.length})`), list);
    more.open = !found.length;
    box.append(more);
  }
}

function tellFigures() {
  const fixed = located.filter((photo) => photo.quality === 4).length;
  const time = median(PHOTOS.map((photo) => photo.timeError));
  const sigma = median(located.map((photo) => photo.sigma));
  const share = (part, whole) => (whole ? `${number(Math.floor(100 * part / whole))} %` : '–');
  const span = PHOTOS.length ? PHOTOS.at(-1).t - PHOTOS[0].t : 0;
  const whole = Math.floor(span / MINUTE_MS);
  let minutes = whole ? `${whole} min ${Math.floor(span % MINUTE_MS / 1000)} s` : `${number(span / 1000, 1)} s`;
  if (whole >= 60) minutes = `${Math.floor(whole / 60)} h ${whole % 60} min`;
  const damaged = DATA.losses.reduce((sum, loss) => sum + loss.damaged, 0);
  let way = 0;
  for (const leg of DATA.track) for (let i = 1; i < leg.x.length; i++) way += Math.hypot(leg.x[i] - leg.x[i - 1], leg.y[i] - leg.y[i - 1]);
  const figures = [
    [number(PHOTOS.length), say('photos').toLowerCase()], [share(located.length, PHOTOS.length), say('located'), located.length < PHOTOS.length],
    [share(fixed, located.length), say('rtk'), fixed < located.length / 2],
    [time === null ? '–' : `± ${number(time, time < 10 ? 1 : 0)} ms`, say('timeError')], [sigma === null ? '–' : metres(sigma), say('sigma')],
    [minutes, say('duration')], [metres(way), say('distance')], [number(damaged), say('damagedPictures'), damaged > 0],
  ];
  byId('figures').replaceChildren(...figures.map(([value, text, bad]) => {
    const box = element('div', '', {class: bad ? 'figure bad' : 'figure'});
    box.append(element('b', value), element('span', text));
    return box;
  }));
}

function tellLegend() {
  const used = new Set([...DATA.track.map((leg) => qualityOf(leg.quality)), ...located.map((photo) => qualityOf(photo.quality))]);
  const entries = ['fixed', 'float', 'dgnss', 'single', 'none'].filter((name) => used.has(name)).map((name) => [name, say(name), '']);
  DATA.cameras.forEach((camera, i) => entries.push([sideOf(i), camera.name, 'dot']));
  byId('legend').replaceChildren(...entries.map(([name, text, kind]) => {
    const box = element('span');
    box.append(element('i', '', {class: kind, style: `background:var(--${name})`}), text);
    return box;
  }));
}

// ---- map ---------------------------------------------------------------------------------------------------------

function begin(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext('2d');
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = '12px system-ui, sans-serif';
  return {pen, width, height};
}

function fit() {
  const canvas = byId('map');
  const xs = [...located.map((photo) => photo.x), ...DATA.track.flatMap((leg) => leg.x)];
  const ys = [...located.map((photo) => photo.y), ...DATA.track.flatMap((leg) => leg.y)];
  if (!xs.length) return;
  const [x0, x1, y0, y1] = [smallest(xs), largest(xs), smallest(ys), largest(ys)];
  view.x = (x0 + x1) / 2;
  view.y = (y0 + y1) / 2;
  view.scale = 0.86 * Math.min(canvas.clientWidth / Math.max(10, x1 - x0), canvas.clientHeight / Math.max(10, y1 - y0));
}

const toMap = (canvas, x, y) => [canvas.clientWidth / 2 + (x - view.x) * view.scale, canvas.clientHeight / 2 - (y - view.y) * view.scale];

function drawMap() {
  const canvas = byId('map');
  const {pen, width, height} = begin(canvas);
  pen.fillStyle = colour('soft');
  if (!located.length && !DATA.track.length) return pen.fillText(say('noTrack'), 16, 28);
  drawGrid(pen, canvas, width, height);
  pen.lineJoin = pen.lineCap = 'round';
  for (const leg of DATA.track) {
    pen.strokeStyle = colour(qualityOf(leg.quality));
    pen.lineWidth = 6;
    pen.beginPath();
    leg.x.forEach((x, i) => pen.lineTo(...toMap(canvas, x, leg.y[i])));
    if (leg.x.length === 1) pen.lineTo(...toMap(canvas, leg.x[0] + 0.01, leg.y[0]));
    pen.stroke();
  }
  const last = DATA.cameras.map(() => [-99, -99]);
  for (const photo of located) {
    const [x, y] = placeOnMap(canvas, photo);
    if (Math.hypot(x - last[photo.camera][0], y - last[photo.camera][1]) < CROWDED) continue;
    last[photo.camera] = [x, y];
    drawPhoto(pen, canvas, photo, false);
  }
  if (PHOTOS[chosen]?.x !== undefined) drawPhoto(pen, canvas, PHOTOS[chosen], true);
  drawScale(pen, width, height);
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
}

function drawGrid(pen, canvas, width, height) {
  const step = niceStep(110 / view.scale);
  const [west, north] = [view.x - width / 2 / view.scale, view.y + height / 2 / view.scale];
  pen.strokeStyle = colour('line');
  pen.lineWidth = 1;
  pen.beginPath();
  for (let x = Math.ceil(west / step) * step; x < west + width / view.scale; x += step) {
    const [at] = toMap(canvas, x, 0);
    pen.moveTo(at, 0);
    pen.lineTo(at, height);
  }
  for (let y = Math.ceil((north - height / view.scale) / step) * step; y < north; y += step) {
    const [, at] = toMap(canvas, 0, y);
    pen.moveTo(0, at);
    pen.lineTo(width, at);
  }
  pen.stroke();
}

function drawScale(pen, width, height) {
  const step = niceStep(70 / view.scale);
  const long = step * view.scale;
  pen.strokeStyle = pen.fillStyle = colour('ink');
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(14, height - 20);
  pen.lineTo(14, height - 14);
  pen.lineTo(14 + long, height - 14);
  pen.lineTo(14 + long, height - 20);
  pen.stroke();
  pen.fillText(step < 1000 ? `${number(step, step < 1 ? 1 : 0)} m` : `${number(step / 1000)} km`, 20, height - 20);
  pen.beginPath();
  pen.moveTo(26, 12);
  pen.lineTo(34, 34);
  pen.lineTo(26, 29);
  pen.lineTo(18, 34);
  pen.fill();
  pen.fillText('N', 22, 48);
}

function drawPhoto(pen, canvas, photo, isChosen) {
  const [x, y] = placeOnMap(canvas, photo);
  if (x < -30 || y < -30 || x > canvas.clientWidth + 30 || y > canvas.clientHeight + 30) return;
  const size = isChosen ? 9 : Math.min(6, Math.max(view.scale < FAR ? 1.2 : 2.5, view.scale * 1.2));
  if (photo.direction !== undefined && (isChosen || size > 3)) {
    const turn = (photo.direction - 90) * Math.PI / 180;
    pen.fillStyle = colour(sideOf(photo.camera));
    pen.globalAlpha = isChosen ? 0.45 : 0.3;
    pen.beginPath();
    pen.moveTo(x, y);
    pen.arc(x, y, isChosen ? 44 : size * 3.2, turn - 0.5, turn + 0.5);
    pen.fill();
    pen.globalAlpha = 1;
  }
  pen.beginPath();
  pen.arc(x, y, size, 0, 2 * Math.PI);
  pen.fillStyle = colour(sideOf(photo.camera));
  pen.fill();
  if (!isChosen && size < 3) return;
  pen.lineWidth = isChosen ? 3 : 1;
  pen.strokeStyle = isChosen ? colour('ink') : colour('card');
  pen.stroke();
}

// Where a photo is drawn: seen from afar the cameras stand beside the track, so that its colour stays visible.
function placeOnMap(canvas, photo) {
  const [x, y] = toMap(canvas, photo.x, photo.y);
  if (photo.heading === undefined || view.scale > CLOSE) return [x, y];
  const turn = photo.heading * Math.PI / 180;
  const across = Math.sin((photo.direction - photo.heading) * Math.PI / 180); // to the right above 0
  const isRight = Math.abs(across) > 0.1 ? across > 0 : photo.camera % 2;
  const aside = (isRight ? 7 : -7) * Math.min(1, CLOSE / view.scale - 1, view.scale / FAR);
  return [x + aside * Math.cos(turn), y + aside * Math.sin(turn)];
}

function zoom(factor, x, y) {
  const canvas = byId('map');
  const [dx, dy] = [x - canvas.clientWidth / 2, canvas.clientHeight / 2 - y];
  const scale = Math.min(400, Math.max(0.002, view.scale * factor));
  view.x += dx / view.scale - dx / scale;
  view.y += dy / view.scale - dy / scale;
  view.scale = scale;
  drawMap();
}

function nearestPhoto(awayOf, within = Infinity) { // in pixels; -1 where none is
  let best = -1;
  PHOTOS.forEach((photo, i) => {
    const away = awayOf(photo);
    if (away < within) [best, within] = [i, away];
  });
  return best;
}

function nearestOnMap(canvas, event) {
  return nearestPhoto((photo) => {
    if (photo.x === undefined) return Infinity;
    const [x, y] = placeOnMap(canvas, photo);
    return Math.hypot(x - event.offsetX, y - event.offsetY);
  }, 30);
}

function watchMap() {
  const canvas = byId('map');
  const pointers = new Map();
  let moved = 0;
  let spread = 0;
  let middle = null;
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    moved = spread = 0;
    middle = null;
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!pointers.has(event.pointerId)) return void (event.pointerType === 'mouse' && choose(nearestOnMap(canvas, event)));
    const last = pointers.get(event.pointerId);
    pointers.set(event.pointerId, event);
    moved += Math.hypot(event.offsetX - last.offsetX, event.offsetY - last.offsetY);
    if (pointers.size === 2) {
      const [a, b] = [...pointers.values()];
      const apart = Math.hypot(a.offsetX - b.offsetX, a.offsetY - b.offsetY);
      const [x, y] = [(a.offsetX + b.offsetX) / 2, (a.offsetY + b.offsetY) / 2];
      if (middle) [view.x, view.y] = [view.x - (x - middle[0]) / view.scale, view.y + (y - middle[1]) / view.scale];
      if (spread) zoom(apart / spread, x, y);
      [spread, middle] = [apart, [x, y]];
    } else {
      view.x -= (event.offsetX - last.offsetX) / view.scale;
      view.y += (event.offsetY - last.offsetY) / view.scale;
      drawMap();
    }
  });
  const release = (event) => {
    if (pointers.delete(event.pointerId) && event.type === 'pointerup' && moved < 8) choose(nearestOnMap(canvas, event));
  };
  canvas.addEventListener('pointerup', release);
  canvas.addEventListener('pointercancel', release);
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, event.offsetX, event.offsetY);
  }, {passive: false});
}

// ---- errors over time --------------------------------------------------------------------------------------------

const EDGE = {left: 58, right: 12, top: 18, gap: 34, bottom: 34};

function timeScale(width) {
  const first = PHOTOS[0].t;
  const span = Math.max(1, PHOTOS.at(-1).t - first);
  return {first, span, at: (t) => EDGE.left + (t - first) / span * (width - EDGE.left - EDGE.right)};
}

function drawTimes() {
  const canvas = byId('times');
  const {pen, width, height} = begin(canvas);
  if (!PHOTOS.length) return;
  const scale = timeScale(width);
  const tall = (height - EDGE.top - EDGE.gap - EDGE.bottom) / 2;
  pen.save();
  pen.beginPath();
  pen.rect(EDGE.left, 0, width - EDGE.left - EDGE.right, height);
  pen.clip();
  pen.fillStyle = colour('single');
  pen.globalAlpha = 0.25;
  for (const gap of DATA.gaps) pen.fillRect(scale.at(gap.t), EDGE.top, Math.max(2, scale.at(gap.t + 1000 * gap.seconds) - scale.at(gap.t)), height - EDGE.top - EDGE.bottom);
  pen.globalAlpha = 1;
  pen.fillStyle = colour('float');
  for (const loss of DATA.losses) for (const {t} of loss.when) pen.fillRect(scale.at(t) - 1, height - EDGE.bottom - 8, 2, 8);
  pen.restore();
  const times = PHOTOS.map((photo) => photo.timeError).filter((value) => value !== undefined);
  const most = niceStep(largest([1, ...times]));
  const linear = (value) => EDGE.top + tall * (1 - value / most);
  axis(pen, width, [0, most / 2, most].map((value) => [linear(value), number(value, most < 4 ? 1 : 0)]), say('timeAxis'), EDGE.top);
  dots(pen, scale, (photo) => photo.timeError, linear, (photo) => colour(sideOf(photo.camera)));
  const sigmas = located.map((photo) => photo.sigma).filter((value) => value > 0);
  if (sigmas.length) {
    const low = Math.floor(Math.log10(smallest(sigmas)));
    const high = Math.max(low + 1, Math.ceil(Math.log10(largest(sigmas))));
    const top = EDGE.top + tall + EDGE.gap;
    const logarithmic = (value) => top + tall * (high - Math.log10(value)) / (high - low);
    const powers = Array.from({length: high - low + 1}, (_, i) => 10 ** (low + i));
    axis(pen, width, powers.map((value) => [logarithmic(value), metres(value)]), say('sigmaAxis'), top);
    dots(pen, scale, (photo) => photo.sigma || undefined, logarithmic, (photo) => colour(qualityOf(photo.quality)));
  }
  timeMarks(pen, scale, width, height);
  const at = scale.at(PHOTOS[chosen].t);
  pen.strokeStyle = colour('ink');
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.moveTo(at, EDGE.top);
  pen.lineTo(at, height - EDGE.bottom);
  pen.stroke();
}

function axis(pen, width, marks, title, top) {
  pen.strokeStyle = colour('line');
  pen.fillStyle = colour('soft');
  pen.lineWidth = 1;
  for (const [y, text] of marks) {
    pen.beginPath();
    pen.moveTo(EDGE.left, y);
    pen.lineTo(width - EDGE.right, y);
    pen.stroke();
    pen.textAlign = 'right';
    pen.fillText(text, EDGE.left - 8, y + 4);
  }
  pen.textAlign = 'left';
  pen.fillText(title, EDGE.left, top - 6);
}

function dots(pen, scale, value, place, paint) {
  for (const photo of PHOTOS) {
    if (value(photo) === undefined) continue;
    pen.fillStyle = paint(photo);
    pen.beginPath();
    pen.arc(scale.at(photo.t), place(value(photo)), PHOTOS.length > 2000 ? 1.5 : 2.6, 0, 2 * Math.PI);
    pen.fill();
  }
}

function timeMarks(pen, scale, width, height) {
  pen.fillStyle = colour('soft');
  pen.textAlign = 'center';
  const count = Math.max(2, Math.floor((width - EDGE.left) / 90));
  const steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400];
  const step = 1000 * (steps.find((s) => s * 1000 * (count + 1) > scale.span) ?? 86400);
  for (let t = Math.ceil(scale.first / step) * step; t <= scale.first + scale.span; t += step) {
    const at = scale.at(t);
    if (at < EDGE.left + 20 || at > width - 30) continue;
    pen.fillText(clock(t), at, height - 12);
    pen.fillRect(at, height - EDGE.bottom, 1, 5);
  }
  pen.textAlign = 'left';
}

function watchTimes() {
  const canvas = byId('times');
  const pick = (event) => {
    if (!PHOTOS.length) return;
    const scale = timeScale(canvas.clientWidth);
    choose(nearestPhoto((photo) => Math.abs(scale.at(photo.t) - event.offsetX)));
  };
  canvas.addEventListener('pointermove', (event) => event.pointerType === 'mouse' && pick(event));
  canvas.addEventListener('click', pick);
}

// ---- one photo ---------------------------------------------------------------------------------------------------

function thumbnail(i) {
  const numbers = Object.keys(DATA.thumbnails).map(Number);
  if (!numbers.length) return '';
  const nearest = DATA.thumbnails[i] ? i : numbers.filter((n) => PHOTOS[n].camera === PHOTOS[i].camera).reduce((a, b) => (Math.abs(b - i) < Math.abs(a - i) ? b : a), numbers[0]);
  return `data:image/jpeg;base64,${DATA.thumbnails[nearest]}`;
}

const linkTo = (photo) => photo.photo.split('/').map(encodeURIComponent).join('/');
// The server shows this page in an origin of its own, which may look at its pictures but not fetch its files.
const IS_SERVED = /\/api\/recordings\/[^/]+\/files\/report\.html$/.test(location.pathname);
const pictureOf = (photo) => (IS_SERVED ? `../thumbnails/${linkTo(photo)}?width=1280` : linkTo(photo));

let isDue = false;
function choose(i) {
  if (i < 0 || i >= PHOTOS.length || i === chosen) return;
  chosen = i;
  tellPhoto();
  const place = chosenPlace();
  if (place && !place.isSeen) [view.x, view.y] = [PHOTOS[i].x, PHOTOS[i].y];
  if (isDue) return; // a mouse asks more often than a screen shows
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    drawMap();
    drawTimes();
  });
}

function chosenPlace() {
  const photo = PHOTOS[chosen];
  if (photo?.x === undefined) return null;
  const canvas = byId('map');
  const [x, y] = toMap(canvas, photo.x, photo.y);
  return {x, y, isSeen: x > 0 && y > 0 && x < canvas.clientWidth && y < canvas.clientHeight};
}

function zoomOnChosen(factor) {
  const canvas = byId('map');
  const place = chosenPlace();
  if (place?.isSeen) zoom(factor, place.x, place.y);
  else zoom(factor, canvas.clientWidth / 2, canvas.clientHeight / 2);
}

let awaited = 0;
function tellPhoto() {
  const photo = PHOTOS[chosen];
  byId('side').hidden = !photo;
  if (!photo) return;
  const shot = byId('shot');
  const small = DATA.thumbnails[chosen] ? thumbnail(chosen) : '';
  if (small) shot.src = small;
  clearTimeout(awaited);
  awaited = setTimeout(() => {
    const whole = new Image();
    const asked = chosen;
    whole.onload = () => { if (asked === chosen) shot.src = whole.src; };
    whole.onerror = () => { if (asked === chosen && !small) shot.src = thumbnail(asked); };
    whole.src = pictureOf(photo);
  }, 150);
  shot.alt = photo.photo;
  byId('full').href = pictureOf(photo);
  byId('which').textContent = `${number(chosen + 1)} / ${number(PHOTOS.length)}`;
  const unknown = say('unknown');
  const degrees = (value) => (value === undefined ? '–' : `${number(value)}°`);
  const way = photo.interpolation === 'none' ? say('nearest') : say(photo.interpolation);
  const facts = [
    [say('time'), `${clock(photo.t, 3)}${photo.timeError === undefined ? '' : ` ± ${number(photo.timeError, 1)} ms`}`],
    [say('camera'), DATA.cameras[photo.camera].name + (DATA.cameras[photo.camera].model ? ` (${DATA.cameras[photo.camera].model})` : '')],
    [say('place'), photo.x === undefined ? unknown : `${photo.lat.toFixed(7)}, ${photo.lon.toFixed(7)} (${way})`],
    [say('error'), photo.sigma === undefined ? unknown : `${metres(photo.sigma)} (1 σ)`],
    [say('fix'), `${say(qualityOf(photo.quality))}${photo.satellites === undefined ? '' : `, ${photo.satellites} sat.`}`],
  ];
  if (photo.fixAway !== undefined) facts.push([say('fixAway'), `${number(Math.abs(photo.fixAway))} ms ${say(photo.fixAway < 0 ? 'ago' : 'ahead')}`]);
  if (photo.alt !== undefined) facts.push([say('altitude'), `${number(photo.alt, 2)} m`]);
  if (photo.heading !== undefined) facts.push([say('heading'), `${degrees(photo.heading)} / ${degrees(photo.direction)}`]);
  if (photo.speed !== undefined) facts.push([say('speed'), `${number(photo.speed * 3.6, 1)} km/h`]);
  if (photo.sharpness !== undefined) facts.push([say('sharpness'), number(photo.sharpness)]);
  if (photo.flags) facts.push([say('flags'), photo.flags.split(' ').map((word) => say(`is-${word}`)).join(', ')]);
  byId('facts').replaceChildren(...facts.flatMap(([name, value]) => [element('dt', name), element('dd', value)]));
  document.querySelectorAll('.strip .on').forEach((button) => button.classList.remove('on'));
  document.querySelector(`.strip [data-photo="${chosen}"]`)?.classList.add('on');
}

function tellStrip() {
  byId('strip').replaceChildren(...Object.keys(DATA.thumbnails).map(Number).map((i) => {
    const button = element('button', '', {'data-photo': i});
    button.append(element('img', '', {src: thumbnail(i), alt: PHOTOS[i].photo}), element('span', clock(PHOTOS[i].t)));
    button.onclick = () => {
      choose(i);
      byId('side').scrollIntoView({block: 'nearest', behavior: 'smooth'});
    };
    return button;
  }));
}

// ---- tables and small charts -------------------------------------------------------------------------------------

function table(heads, rows) {
  const made = element('table');
  const head = element('tr');
  head.append(...heads.map((text) => element('th', text)));
  made.append(head, ...rows.map((cells) => {
    const row = element('tr');
    row.append(...cells.map((text) => element('td', text)));
    return row;
  }));
  return made;
}

function tellGaps() {
  const rows = DATA.gaps.map((gap) => [
    clock(gap.t, 3), number(gap.seconds, 1),
    gap.why === 'quality' ? `${say('quality')} ${say(qualityOf(gap.from))} → ${say(qualityOf(gap.to))}` : say('silence'),
  ]);
  byId('gaps').replaceChildren(rows.length ? table([say('from'), say('seconds'), say('why')], rows) : element('p', say('noGaps')));
  const losses = DATA.losses.map((loss) => [cameraOf(loss.camera).name, number(loss.pictures), number(loss.damaged), number(loss.errors)]);
  byId('losses').replaceChildren(
    losses.length ? table([say('camera'), say('pictures'), say('damaged'), say('errors')], losses) : element('p', say('noLosses')));
}

const SVG = 'http://www.w3.org/2000/svg';
function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The colour and the name of the camera in whose folder something lies; calibration.json may add the video's name.
function cameraOf(folder) {
  const known = DATA.cameras.findIndex((camera) => folder === camera.folder || folder.startsWith(`${camera.folder} `));
  return {name: known < 0 ? folder : DATA.cameras[known].name + folder.slice(DATA.cameras[known].folder.length), colour: sideOf(known)};
}

function tellClocks() {
  const box = byId('clock');
  if (!DATA.clocks.length) return void box.replaceChildren(element('p', say('noClock')));
  box.replaceChildren();
  DATA.clocks.forEach((entry) => {
    const camera = cameraOf(entry.camera);
    const error = entry.error_ms?.middle;
    const words = [`${say('source')} ${say(entry.source)}`];
    if (error !== undefined) words.push(`${say('within')} ± ${number(error, 1)} ms`);
    if (entry.rate_ppm) words.push(`${say('rate')} ${number(entry.rate_ppm, 1)} ppm`);
    if (entry.codes_read) words.push(`${number(entry.codes_read)} ${say('codes')} ${number(entry.codes_rejected ?? 0)}`);
    if (entry.drive) words.push(`${say('drive')} ${say(entry.drive)}`);
    box.append(element('p', camera.name, {style: `color:var(--${camera.colour});font-weight:600;margin-top:6px`}), element('p', words.join(', ')));
    if (entry.points.length) box.append(residuals(entry, `var(--${camera.colour})`, widthOf(box)));
  });
  if (DATA.clocks.some((entry) => entry.points.length)) box.append(element('p', say('residual'), {class: 'soft'}));
}

// Of a drawing: drawn wider or smaller, its letters would be larger or smaller than all others.
const widthOf = (box) => box.clientWidth || 420;

function residuals(entry, paint, width) {
  const [height, left, right] = [100, 62, 12];
  const drawing = shape('svg', {viewBox: `0 0 ${width} ${height}`, width: '100%', role: 'img', 'aria-label': say('residual')});
  const most = niceStep(Math.max(0.1, ...entry.points.map((point) => Math.abs(point.residual) + point.half)));
  const times = entry.points.map((point) => point.t);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const x = (t) => left + 12 + (last > first ? (t - first) / (last - first) : 0.5) * (width - left - right - 24);
  const y = (value) => 46 - value / most * 34;
  for (const value of [-most, 0, most]) {
    drawing.append(shape('line', {x1: left, x2: width - right, y1: y(value), y2: y(value), stroke: 'var(--line)'}));
    drawing.append(shape('text', {x: left - 6, y: y(value) + 4, 'text-anchor': 'end'}, `${number(value, most < 2 ? 1 : 0)} ms`));
  }
  entry.points.forEach((point, n) => {
    const at = x(point.t);
    drawing.append(shape('line', {x1: at, x2: at, y1: y(point.residual - point.half), y2: y(point.residual + point.half), stroke: paint, 'stroke-width': 3, opacity: 0.5}));
    const dot = shape('circle', {cx: at, cy: y(point.residual), r: 4.5, fill: paint});
    dot.append(shape('title', {}, `${point.at}: ${point.residual} ± ${point.half} ms, ${point.codes}`));
    drawing.append(dot);
    const anchor = entry.points.length === 1 ? 'middle' : n ? 'end' : 'start';
    if (n === 0 || n === entry.points.length - 1) drawing.append(shape('text', {x: at, y: height - 2, 'text-anchor': anchor}, clock(point.t)));
  });
  return drawing;
}

function tellSharpness() {
  const box = byId('sharp');
  const known = PHOTOS.filter((photo) => photo.sharpness > 0);
  if (!known.length) return void box.replaceChildren(element('p', say('noSharpness')));
  const [width, height, left, bottom, right] = [widthOf(box), 210, 34, 34, 26];
  const logs = known.map((photo) => Math.log10(photo.sharpness));
  const low = Math.floor(4 * smallest(logs)) / 4;
  const high = Math.max(low + 0.5, Math.ceil(4 * largest(logs) + 0.01) / 4);
  const bins = Math.min(28, Math.max(8, Math.round((high - low) * 20)));
  const counts = DATA.cameras.map(() => Array(bins).fill(0));
  known.forEach((photo, n) => { counts[photo.camera][Math.min(bins - 1, Math.floor((logs[n] - low) / (high - low) * bins))] += 1; });
  const most = Math.max(...Array.from({length: bins}, (_, b) => counts.reduce((sum, own) => sum + own[b], 0)));
  const wide = (width - left - right) / bins;
  const drawing = shape('svg', {viewBox: `0 0 ${width} ${height}`, width: '100%', role: 'img', 'aria-label': say('sharpness')});
  for (const value of [0, most]) {
    const y = height - bottom - value / most * (height - bottom - 12);
    drawing.append(shape('line', {x1: left, x2: width - right, y1: y, y2: y, stroke: 'var(--line)'}));
    drawing.append(shape('text', {x: left - 6, y: y + 4, 'text-anchor': 'end'}, number(value)));
  }
  for (let b = 0; b < bins; b++) {
    let base = height - bottom;
    counts.forEach((own, camera) => {
      const tall = own[b] / most * (height - bottom - 12);
      base -= tall;
      if (tall) drawing.append(shape('rect', {x: left + b * wide + 1, y: base, width: wide - 2, height: tall, fill: `var(--${sideOf(camera)})`, rx: 2}));
    });
  }
  for (let power = Math.floor(low); power <= high; power++) {
    for (const factor of high - low < 1.5 ? [1, 1.5, 2, 3, 5, 7] : [1, 2, 5]) {
      const mark = power + Math.log10(factor);
      if (mark < low || mark > high) continue;
      const x = left + (mark - low) / (high - low) * (width - left - right);
      drawing.append(shape('text', {x, y: height - bottom + 18, 'text-anchor': 'middle'}, number(factor * 10 ** power, Math.max(0, -power))));
    }
  }
  const middle = median(known.map((photo) => photo.sharpness));
  const at = left + (Math.log10(middle) - low) / (high - low) * (width - left - right);
  drawing.append(shape('line', {x1: at, x2: at, y1: 8, y2: height - bottom, stroke: 'var(--ink)', 'stroke-dasharray': '4 3'}));
  box.replaceChildren(drawing, element('p', `${say('sharpMedian')} ${number(middle)}`, {class: 'soft'}));
}

// ---- all together ------------------------------------------------------------------------------------------------

function tell() {
  document.title = `${DATA.name} – edenCar`;
  byId('title').textContent = DATA.name === DATA.id ? DATA.id : `${DATA.name} (${DATA.id})`;
  byId('subtitle').textContent = PHOTOS.length ? `${new Date(PHOTOS[0].t).toLocaleDateString(language, {timeZone: 'UTC', weekday: 'long', year: 'numeric', month: 'long', day: 'numeric'})}, ${clock(PHOTOS[0].t)} – ${clock(PHOTOS.at(-1).t)} UTC` : '';
  document.querySelectorAll('[data-word]').forEach((node) => { node.textContent = say(node.dataset.word); });
  for (const id of ['in', 'out', 'fit', 'before', 'after']) byId(id).setAttribute('aria-label', say(id));
  byId('map').setAttribute('aria-label', say('map'));
  byId('times').setAttribute('aria-label', say('chart'));
  byId('made').textContent = say('made');
  for (const step of [tellNotes, tellFigures, tellLegend, tellStrip, tellPhoto, tellGaps, tellClocks, tellSharpness, drawMap, drawTimes]) step();
}

byId('in').onclick = () => zoomOnChosen(1.6);
byId('out').onclick = () => zoomOnChosen(0.625);
byId('fit').onclick = () => { fit(); drawMap(); };
byId('before').onclick = () => choose(chosen - 1);
byId('after').onclick = () => choose(chosen + 1);
for (const id of ['map', 'times']) {
  byId(id).addEventListener('keydown', (event) => {
    const step = {ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10}[event.key];
    if (step) { event.preventDefault(); choose(Math.max(0, Math.min(PHOTOS.length - 1, chosen + step))); }
    if (id === 'map' && '+-'.includes(event.key)) zoomOnChosen(event.key === '+' ? 1.6 : 0.625);
  });
}
let size = '';
new ResizeObserver(() => {
  const now = `${byId('map').clientWidth}x${byId('map').clientHeight}`;
  if (now !== size) { size = now; fit(); drawMap(); tellClocks(); tellSharpness(); }
  drawTimes();
}).observe(byId('map'));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { colours.clear(); drawMap(); drawTimes(); });
fit();
speak(tell);
watchMap();
watchTimes();
