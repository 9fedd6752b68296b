// Sounds and vibration for those who look at the road. Browsers allow sound after the first touch of the page.

const PATTERNS = { // [hertz, seconds] and milliseconds of vibration
  start: [[[660, 0.12], [880, 0.2]], [120, 60, 200]],
  stop: [[[880, 0.12], [440, 0.3]], [200, 60, 120]],
  alarm: [[[988, 0.22], [0, 0.08], [988, 0.22], [0, 0.08], [988, 0.4]], [400, 120, 400, 120, 600]],
  tick: [[[1320, 0.08]], [60]],
};
let context = null;

export const isOn = () => localStorage.getItem('sound') !== 'off';

export function setOn(on) {
  localStorage.setItem('sound', on ? 'on' : 'off');
  if (on) play('tick');
}

/** Wake the sound up; called in the course of a touch. */
export function wake() {
  context ??= globalThis.AudioContext ? new AudioContext() : null;
  if (context?.state === 'suspended') context.resume();
}

export function play(name) {
  if (!isOn()) return;
  const [tones, shakes] = PATTERNS[name];
  if (navigator.userActivation?.hasBeenActive) navigator.vibrate?.(shakes);
  if (context?.state !== 'running') return;
  let at = context.currentTime;
  for (const [hertz, seconds] of tones) {
    if (hertz) beep(hertz, at, seconds);
    at += seconds;
  }
}

function beep(hertz, at, seconds) {
  const tone = context.createOscillator(), volume = context.createGain();
  tone.type = 'square';
  tone.frequency.value = hertz;
  volume.gain.setValueAtTime(0.25, at);
  volume.gain.exponentialRampToValueAtTime(0.01, at + seconds);
  tone.connect(volume).connect(context.destination);
  tone.start(at);
  tone.stop(at + seconds);
}

document.addEventListener('pointerdown', wake, { passive: true });
