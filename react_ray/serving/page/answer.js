// What stands above the results of both modes: recall, coverage and time; and what stands there instead of results.
import { ask } from './api.js';
import { button, byId, count, element, say } from './element.js';

const MEASURED_N = 50; // held-out queries of a measurement
const MEASURED_K = 100; // the most hits of each
const RECALL = 'The share of the true hits that these parameters find, as the calibration of the index measured it';

// The badges of an answer. k, key: of the search, for a measurement that a click starts.
export function badges(answer, { k, key }) {
  const isPartial = answer.coverage < 1;
  const recall = answer.recall === null ? 'not measured' : answer.recall.toFixed(3);
  const coverage = `${(answer.coverage * 100).toFixed(isPartial ? 1 : 0)} %`;
  const badge = (title, isBad, ...children) =>
    element('span', { class: isBad ? 'badge bad' : 'badge', title }, children);
  const measured = element('span', { class: 'mute', role: 'status' });
  const measure = button('Measure recall now', () => measureNow(measure, measured, Math.min(k, MEASURED_K), key), {
    class: 'quiet small',
  });
  return element('div', { class: 'badges' },
    badge(RECALL, false, 'recall ', element('b', {}, recall)),
    badge('The share of the vectors that were searched', isPartial, 'coverage ', element('b', {}, coverage)),
    badge(timings(answer.timings_ms), false, `${Math.round(answer.timings_ms?.total ?? 0)} ms`),
    measure, measured);
}

// The sentence above an answer that a part of the index did not give.
export function partialWarning({ coverage }) {
  if (coverage >= 1) return [];
  const share = `Only ${(coverage * 100).toFixed(1)} % of the vectors were searched`;
  return [element('p', { class: 'warning' }, `${share}, because a part of the index does not answer.`)];
}

async function measureNow(measure, measured, k, key) {
  measure.disabled = true;
  measured.textContent = 'searching exactly…';
  try {
    measured.textContent = sentence(await ask(`/v1/recall?n=${MEASURED_N}&k=${k}&key=${encodeURIComponent(key)}`));
  } catch (error) {
    measured.textContent = error.message;
  }
  measure.disabled = false;
}

function sentence({ recall, low, high, n, k, queries, promised }) {
  const interval = low === undefined || low === null ? '' : ` (95 % interval ${low.toFixed(3)} to ${high.toFixed(3)})`;
  const promise = promised === null || promised === undefined ? '' : `, promised ${promised.toFixed(3)}`;
  return `recall@${k} is ${recall.toFixed(3)}${interval} on ${n} ${queries ?? 'queries'}${promise}`;
}

const timings = steps =>
  Object.entries(steps ?? {})
    .filter(([, ms]) => ms !== null)
    .map(([step, ms]) => `${step} ${ms.toFixed(1)} ms`)
    .join(', ');

// Replaces the results, which are complete then.
export function put(...nodes) {
  byId('results').removeAttribute('aria-busy');
  byId('results').replaceChildren(...nodes);
}

// While an answer is awaited, older results stay, pale; where there are none, grey cards stand below the sentence.
export function wait(numCards, sentence = 'Searching…') {
  const results = byId('results');
  say(sentence);
  results.setAttribute('aria-busy', 'true');
  if (results.querySelector('.hit')) return;
  results.replaceChildren(
    element('p', { class: 'mute', 'aria-hidden': 'true' }, sentence),
    element(
      'ul',
      { class: 'pairs', 'aria-hidden': 'true' },
      Array.from({ length: Math.min(numCards, 24) }, () =>
        element('li', { class: 'hit grey' }, element('span', { class: 'face' }), element('span', { class: 'line' })),
      ),
    ),
  );
}

const TITLES = {
  0: 'No answer', 401: 'A key is needed', 429: 'The server is busy', 503: 'A part of the index does not answer',
  504: 'The search took too long',
};

// The server's sentences begin and end as in a terminal. A first word that is a name (serve.max_k, group-3) stays.
const asSentence = text =>
  (/^[a-z]+[ ,]/.test(text) ? text[0].toUpperCase() + text.slice(1) : text) + (/[.!?…]$/.test(text) ? '' : '.');

// A failure with what can be done about it. again(allowPartial) sends the request again.
export function failure(error, again) {
  const wait = error.retryAfterS ? ` The server suggests to wait ${count(error.retryAfterS, 'second')}.` : '';
  const canRetry = error.status === 0 || error.status >= 429;
  const partly = 'Show what the other parts find';
  return element('div', { class: 'error card', role: 'alert' },
    element('h2', {}, TITLES[error.status] ?? 'This cannot be searched'),
    element('p', {}, asSentence(error.message) + wait),
    element('div', { class: 'bar' },
      canRetry ? button('Try again', () => again(false), { class: 'quiet' }) : null,
      error.status === 503 ? button(partly, () => again(true), { class: 'quiet' }) : null));
}
