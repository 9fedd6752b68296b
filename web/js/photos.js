// Photos, however many: only those in sight are in the page; one of them large, with what is known of it.

import { $, head, language, make, number, say, sayMetres, sayMs, stored, thumbnail } from './core.js';

const FIX = { 1: 'quality.single', 2: 'quality.DGNSS', 4: 'quality.RTK fixed', 5: 'quality.RTK float' };
const GAP = 6, LEAST_WIDTH = 112, BEYOND = 400;

export class Photos {
  constructor(box, viewer, id, chosen) {
    Object.assign(this, { box, viewer, id, chosen, table: null, shown: new Map(), index: 0 });
    const soon = () => { this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); }); };
    $('scroll').addEventListener('scroll', soon, { passive: true });
    new ResizeObserver(soon).observe(box);
    viewer.addEventListener('keydown', (event) => {
      if (event.key === 'ArrowRight') this.step(1);
      if (event.key === 'ArrowLeft') this.step(-1);
    });
  }

  get count() { return this.table?.photo.length ?? 0; }

  show(table) {
    this.table = table;
    this.rest();
    this.draw();
  }

  /** Show none and ask for none, until `draw`. */
  rest() {
    for (const button of this.shown.values()) {
      button.querySelector('img').removeAttribute('src');
      button.remove();
    }
    this.shown.clear();
  }

  draw() {
    const width = this.box.clientWidth;
    if (!width || !this.table) return;
    const columns = Math.max(1, Math.floor((width + GAP) / (LEAST_WIDTH + GAP))), wide = (width - GAP * (columns - 1)) / columns, tall = wide * 9 / 16;
    this.box.style.height = `${Math.ceil(this.count / columns) * (tall + GAP)}px`;
    const top = -this.box.getBoundingClientRect().top, first = Math.max(0, Math.floor((top - BEYOND) / (tall + GAP)) * columns);
    const last = Math.min(this.count, Math.ceil((top + innerHeight + BEYOND) / (tall + GAP)) * columns);
    for (const [index, button] of this.shown) if (index < first || index >= last) { button.remove(); this.shown.delete(index); }
    for (let index = first; index < last; index += 1) {
      const button = this.shown.get(index) ?? this.add(index);
      Object.assign(button.style, { width: `${wide}px`, height: `${tall}px`, left: `${index % columns * (wide + GAP)}px`, top: `${Math.floor(index / columns) * (tall + GAP)}px` });
    }
  }

  add(index) {
    const button = make('button', { type: 'button', 'aria-label': this.name(index), onclick: () => this.open(index) },
      make('img', { src: thumbnail(this.id, this.table.photo[index]), alt: '' }), make('span', { 'aria-hidden': 'true' }, this.time(index, false)));
    const next = [...this.shown.keys()].filter((other) => other > index).sort((a, b) => a - b)[0];
    this.box.insertBefore(button, this.shown.get(next) ?? null); // in order, for the keyboard
    this.shown.set(index, button);
    return button;
  }

  time(index, full = true) {
    const at = new Date(this.table.utc_ms[index]), text = at.toLocaleTimeString(language, { hourCycle: 'h23', timeZone: 'UTC' });
    return full ? `${text}${number(at.getUTCMilliseconds() / 1000, 3).slice(1)}` : text;
  }

  name(index) {
    return say('photo', { number: number(index + 1), time: this.time(index), camera: this.table.camera[index] });
  }

  /** Everything known of a photo, as pairs of words. */
  facts(index) {
    const value = (name) => this.table[name][index], place = [value('interpolated_latitude') ?? value('latitude'), value('interpolated_longitude') ?? value('longitude')];
    return [
      ['time', `${this.time(index)} UTC${value('time_error_ms') == null ? '' : ` ±${sayMs(value('time_error_ms'))}`}`],
      ['position', place[0] == null ? say('photo.nowhere') : `${place[0].toFixed(7)}, ${place[1].toFixed(7)}`],
      ['photo.sigma', value('position_sigma_m') != null && sayMetres(value('position_sigma_m'))],
      ['photo.fix', value('fix_dt_ms') != null && `${say(FIX[value('quality')] ?? 'fix.other')}, ${sayMs(Math.abs(value('fix_dt_ms')))}`],
      ['photo.course', value('heading_deg') != null && `${number(value('heading_deg'))}°, ${number((value('speed_mps') ?? 0) * 3.6)} km/h`],
      ['plot.sharpness', value('sharpness') != null && number(value('sharpness'))],
      ['warnings', value('flags')],
    ].filter(([, text]) => text);
  }

  /** The chosen photo beside the timeline. */
  describe(index) {
    const [time, place, ...rest] = this.facts(index);
    return [
      make('button', { type: 'button', 'aria-label': say('photo.open'), onclick: () => this.open(index) }, make('img', { src: thumbnail(this.id, this.table.photo[index]), alt: '' })),
      make('p', {}, make('strong', {}, time[1]), make('br'), place[1], ...rest.filter(([key]) => key === 'photo.sigma').flatMap(([, text]) => [make('br'), `σ ${text}`])),
    ];
  }

  choose(index) {
    if (index < 0 || index >= this.count) return;
    this.index = index;
    this.chosen(index);
  }

  step(by) {
    const index = this.index + by;
    if (index >= 0 && index < this.count) this.open(index);
  }

  open(index) {
    this.choose(index);
    const facts = this.facts(index).flatMap(([key, text]) => [make('dt', {}, say(key)), make('dd', {}, text)]);
    this.viewer.replaceChildren(
      head(this.viewer, say('photo.of', { number: number(index + 1), count: number(this.count), camera: this.table.camera[index] }), 'viewer-title'),
      make('div', { tabindex: '0', role: 'group', 'aria-labelledby': 'viewer-title' }, make('img', { src: thumbnail(this.id, this.table.photo[index], 1280), alt: this.name(index), width: 1280, height: 720 }), make('dl', {}, ...facts)),
      make('footer', {}, make('p', { class: 'pair' },
        make('button', { type: 'button', class: 'button quiet', disabled: index === 0, onclick: () => this.step(-1) }, `← ${say('photo.before')}`),
        make('button', { type: 'button', class: 'button quiet', disabled: index === this.count - 1, onclick: () => this.step(1) }, `${say('photo.after')} →`)),
      make('a', { class: 'button quiet', href: stored(this.id, this.table.photo[index]) }, say('photo.original'))));
    if (!this.viewer.open) this.viewer.showModal();
  }
}
