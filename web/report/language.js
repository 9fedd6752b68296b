'use strict';
// The two languages of a report: the one that was chosen last, else the browser's; the button #language changes it.

const OTHERS = {en: ['fr', 'Français'], fr: ['en', 'English']};
let language = (navigator.language || 'en').startsWith('fr') ? 'fr' : 'en';
try { language = localStorage.getItem('edencar-language') || language; } catch { /* a file may have no storage */ }

// No line ends before a colon, a percent sign or a unit, nor after ±.
const bound = (text) => String(text).replace(/ (?=(?:[:;!?»%]|ms|cm|km|m|s|ppm)(?![\p{L}\d]))/gu, '\u00a0').replace(/([±«]) /g, '$1\u00a0');

function speak(tell) { // `tell` shows all that is said in `language`
  const button = document.getElementById('language');
  const show = () => {
    document.documentElement.lang = language;
    [button.lang, button.textContent] = OTHERS[language];
    tell();
  };
  button.onclick = () => {
    language = OTHERS[language][0];
    try { localStorage.setItem('edencar-language', language); } catch { /* a file may have no storage */ }
    show();
  };
  show();
}
