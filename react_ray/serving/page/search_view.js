// The mode "Search": a text, an image, marked pairs or their sum, and a grid of what is found.
import { ask, Latest } from './api.js';
import { badges, failure, partialWarning, put, wait } from './answer.js';
import { openDetail } from './detail.js';
import { button, byId, count, element, say } from './element.js';
import { folded, grid, score } from './grid.js';
import { blame, fill, fit, read } from './options_form.js';
import { inWords, objection, searchBody } from './query.js';
import { snippets } from './snippets.js';
import { format, go, keepImage, linkTo, parse } from './state.js';
import { terms } from './terms.js';

const AGAINST = -0.5; // the weight of a pair marked with −, beside 1 for what is wanted
const latest = new Latest();
const seen = new Map();
let server;
let examples = [];
let shown = '';

// info: the answer of GET /v1/index. names: of classes, as examples of what can be asked.
export function start(info, names) {
  [server, examples] = [info, names];
  const form = byId('search-form');
  fit(form, server);
  form.addEventListener('submit', event => {
    event.preventDefault();
    submit();
  });
  form.querySelector('.fields').addEventListener('change', submit);
  byId('pick').addEventListener('click', () => byId('file').click());
  byId('file').addEventListener('change', event => {
    takeFile(event.target.files[0]);
    event.target.value = '';
  });
  document.addEventListener('paste', event => takeFile(event.clipboardData?.files[0], event));
  document.addEventListener('dragover', event => {
    if (![...event.dataTransfer.types].includes('Files') || parse(location.hash).mode !== 'search') return;
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  document.addEventListener('dragleave', event => {
    if (!event.relatedTarget) document.body.classList.remove('dropping');
  });
  document.addEventListener('drop', event => {
    document.body.classList.remove('dropping');
    takeFile(event.dataTransfer.files[0], event);
  });
}

export function hide() {
  latest.stop();
  shown = '';
}

function submit() {
  const text = byId('text').value;
  if (text.startsWith(document.baseURI.split('#')[0] + '#'))
    go(parse(new URL(text).hash)); // a link to a view of this page
  else go({ ...current(), ...read(byId('search-form')) });
}

const current = () => ({ ...parse(location.hash), open: null });

async function takeFile(file, event = null) {
  if (!file || parse(location.hash).mode !== 'search') return;
  event?.preventDefault();
  const base64 = (await dataUrl(file)).replace(/^[^,]*,/, '');
  const mb = base64.length / 1e6;
  const most = server.limits.body_mb;
  if (mb > most) {
    fail({
      status: 413,
      message: `The image takes ${mb.toFixed(1)} MB in a request, and this server takes ${most} MB; shrink it.`,
    });
    return;
  }
  go({
    ...current(),
    ...read(byId('search-form')),
    text: '',
    pairs: [],
    image: keepImage(file.name || 'pasted image', base64, URL.createObjectURL(file)),
  });
}

const dataUrl = file =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });

// Shows a state of the address: asks the server unless the same query is on the page already.
export async function show(state, allowPartial = false) {
  const form = byId('search-form');
  fill(form, state);
  showTerms(state);
  const body = searchBody(state, server);
  const problem = objection(state, server);
  const same = shown === JSON.stringify(body) && !allowPartial;
  if (problem || !body) {
    latest.stop();
    shown = '';
    if (problem) fail({ status: 400, message: problem });
    else if (state.open === null) welcome();
    if (state.open !== null) openHit({ pair_id: state.open });
    return;
  }
  if (!same) await search(state, allowPartial ? { ...body, allow_partial: true } : body);
  if (state.open !== null && !byId('detail').open) {
    const card = byId('results').querySelector(`[data-pair="${state.open}"]`);
    openHit(card?.hit ?? { pair_id: state.open });
  }
}

async function search(state, body) {
  const focused = document.activeElement?.closest('#results .hit')?.dataset.pair;
  blame(byId('search-form'), null);
  shown = '';
  wait(body.k);
  try {
    const answer = await latest.run(signal => ask('/v1/search', body, signal));
    if (!answer) return;
    shown = JSON.stringify(body);
    render(state, body, answer);
    const faces = selector => byId('results').querySelector(selector);
    if (focused) (faces(`[data-pair="${focused}"] .face`) ?? faces('.face'))?.focus();
  } catch (error) {
    fail(error, partial => show(parse(location.hash), partial));
  }
}

function render(state, body, answer) {
  const [{ hits }] = answer.results;
  for (const hit of hits) seen.set(hit.pair_id, hit);
  const words = `${count(hits.length, 'pair')} for ${inWords(state)}`;
  const list = grid(hits, server, {
    label: words,
    open: openHit,
    describe: folded,
    actions: [
      { name: 'like', text: 'similar', label: 'Similar to this', key: 's', run: like },
      { name: 'for', text: '+', label: 'Mark as wanted', key: '+', run: hit => mark(hit, 1) },
      { name: 'against', text: '−', label: 'Mark as not wanted', key: '-', run: hit => mark(hit, AGAINST) },
    ],
  });
  for (const card of list.children) {
    const weight = state.pairs.find(pair => pair.pair_id === card.hit.pair_id)?.weight ?? 0;
    card.querySelector('[data-action=for]').setAttribute('aria-pressed', weight > 0);
    card.querySelector('[data-action=against]').setAttribute('aria-pressed', weight < 0);
  }
  put(
    element('div', { class: 'answer' }, element('h2', {}, words), badges(answer, { k: body.k, key: state.key })),
    ...partialWarning(answer),
    hits.length ? list : nothing(state),
    snippets('/v1/search', body, server),
  );
  showTerms(state);
  say(hits.length ? `${words}.` : `No pair found for ${inWords(state)}.`);
}

function nothing({ filters }) {
  const why = filters.length ? `No pair passes ${filters.join(' and ')}.` : 'The database gave no pair for this query.';
  const box = element('div', { class: 'card empty' }, element('h2', {}, 'No pair is left'), element('p', {}, why));
  const without = () => go({ ...current(), filters: [] });
  if (filters.length) box.append(button('Search without filters', without, { class: 'quiet' }));
  return box;
}

function welcome() {
  const how =
    'Write what an image shows, or drop, paste or choose an image. Each hit can be marked with + and −, and ' +
    '“similar” searches with the pair itself.';
  const links = examples.map(name => element('a', { href: format({ ...parse('#search'), text: name }) }, name));
  put(
    element('div', { class: 'empty' },
      element('h2', {}, 'Look at what this database returns'),
      element('p', {}, how),
      ...(links.length ? [element('p', {}, 'For example'), element('p', { class: 'examples' }, links)] : [])),
  );
  say('');
}

function fail(error, again = () => show(parse(location.hash))) {
  say('');
  blame(byId('search-form'), error.field);
  if (error.field?.endsWith('text')) byId('text').setAttribute('aria-invalid', 'true');
  put(failure(error, again));
}

function like(hit) {
  go({ ...current(), text: '', image: '', pairs: [{ pair_id: hit.pair_id, weight: 1 }] });
}

// Marks a pair, or takes the mark away if it has it already, and searches again.
function mark(hit, weight) {
  const state = current();
  const old = state.pairs.find(pair => pair.pair_id === hit.pair_id);
  const others = state.pairs.filter(pair => pair !== old);
  const isSame = old && Math.sign(old.weight) === Math.sign(weight);
  go({ ...state, pairs: isSame ? others : [...others, { pair_id: hit.pair_id, weight }] });
}

function openHit(hit) {
  const state = parse(location.hash);
  const why = [
    `found for ${inWords(state)}`,
    hit.score === undefined ? '' : score(hit),
    state.filters.length ? `passes ${state.filters.join(' and ')}` : '',
    hit.folded?.length ? `${count(hit.folded.length, 'duplicate')} folded into it` : '',
  ];
  openDetail(hit, server, {
    reasons: hit.score === undefined ? [] : why,
    actions: [
      { label: 'Similar', run: () => like(hit) },
      { label: 'Mark +', run: () => mark(hit, 1) },
      { label: 'Mark −', run: () => mark(hit, AGAINST) },
    ],
    link: ({ pair_id }) => linkTo({ ...parse(location.hash), open: pair_id }),
  });
}

const showTerms = state => terms(state, seen, server, changes => go({ ...current(), ...changes }));
