// What the server found for the classes: the summary with its threshold, and one section per class, the weakest first.
//
// The threshold and the rejected pairs hold for the whole page, and are written into its address.
import { badges, partialWarning } from './answer.js';
import { classSection } from './class_section.js';
import { sift, weakestFirst } from './class_sift.js';
import { summary } from './class_summary.js';
import { openDetail } from './detail.js';
import { byId, count, element, say } from './element.js';
import { score } from './grid.js';
import { extent } from './histogram.js';
import { snippets } from './snippets.js';
import { go, linkTo, note, parse } from './state.js';

let chosen = { threshold: null, quota: 0, rejected: new Set() };
let sections = [];
let total = null;
let server;
let filters = [];
let noting = 0;
let asked = { body: {}, section: {} };

// Takes over what the address says. quota: pairs per class where it says nothing.
export function restore(state, quota) {
  chosen = { threshold: state.min_score, quota: state.quota ?? quota, rejected: state.rejected };
}

// body: what was sent to POST /v1/classes, answer: its answer. Returns the nodes of the page, to be updated once.
export function results(body, answer, info) {
  server = info;
  asked = { body, section: answer.retrieve };
  const range = extent(answer.classes);
  filters = answer.retrieve.filters ?? [];
  const ask = { range, choice: () => chosen, onthreshold: setThreshold, onreject: reject, open };
  sections = answer.classes.map(one => classSection(one, server, ask));
  total = summary(sections, { range, choice: () => chosen, onthreshold: setThreshold, recipe: () => recipe(body) },
    `${server.name}-${body.task || 'classes'}`);
  const flagged = answer.classes.filter(one => one.flagged).length;
  const unmatched = answer.classes.filter(one => one.flagged && one.num_selected).length;
  const list = element('div', { id: 'class-list' }, weakestFirst(sections).map(section => section.node));
  const linked = parse(location.hash).open;
  if (linked !== null) setTimeout(() => openLinked(linked));
  return [
    element('div', { class: 'answer' }, element('h2', {}, 'What a retrieval would select'),
      badges(answer, { k: chosen.quota, key: body.key ?? '' })),
    ...partialWarning(answer),
    ...answer.differs.map(sentence => element('p', { class: 'note' }, sentence.replaceAll('`', ''))),
    ...(unmatched ? [lead(unmatched, answer.classes.length, answer.advice)] : []),
    total.node,
    rules(),
    sift(sections, list, flagged),
    list,
    snippets('/v1/classes', body, server),
  ];
}

// The section of the recipe by which the pairs are selected, one rule a line.
function rules() {
  return element('details', { id: 'rules' }, element('summary', {}, 'Rules of the selection (retrieve)'),
    element('pre', { tabIndex: 0, 'aria-label': 'the rules' }, element('code')));
}

// What the threshold and the rejected pairs add to the rules, and to a request.
function chosenRules() {
  const { threshold, rejected } = chosen;
  const hits = sections.flatMap(section => section.one.hits).filter(hit => rejected.has(hit.pair_id));
  const alike = hits.flatMap(hit => hit.folded); // one of these would take the place of what it repeats
  return { ...(threshold === null ? {} : { min_score: threshold }),
    ...(rejected.size ? { exclude: [...new Set([...rejected, ...alike])] } : {}) };
}

function lead(unmatched, num, advice) {
  const rest = ` of ${count(num, 'class')} ${unmatched === 1 ? 'does' : 'do'} not look like what was asked for.`;
  return element('p', { class: 'lead' }, element('b', { class: 'down' }, String(unmatched)), rest,
    advice ? ` ${advice}` : '');
}

// Brings all counts and cards up to date with the threshold and the rejected pairs.
export function update() {
  for (const section of sections) section.update();
  total.update();
  const lines = Object.entries({ ...asked.section, ...chosenRules() });
  document.querySelector('#rules code').textContent =
    lines.map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join('\n');
  byId('snippets').replaceWith(snippets('/v1/classes', { ...asked.body, ...chosenRules() }, server));
}

// The body of POST /v1/recipe without its name.
const recipe = ({ classes, task, templates, key, filters, dedup, pairs_per_class }) =>
  ({ classes, task, templates, key, filters, dedup, pairs_per_class, ...chosenRules() });

// Browsers limit how often the address may change, so that of a dragged threshold is written, and said, when it rests.
function remember(what = '') {
  clearTimeout(noting);
  noting = setTimeout(() => {
    if (parse(location.hash).mode !== 'classes') return;
    note({ min_score: chosen.threshold, rejected: chosen.rejected });
    say(`${what}${count(total.numKept(), 'pair')} in all.`);
  }, 150);
}

function setThreshold(value) {
  chosen.threshold = Math.floor(value * 1e4) / 1e4; // rounded down, so that the best pair passes its own score
  update();
  remember();
}

function reject(hit) {
  const was = chosen.rejected.delete(hit.pair_id);
  if (!was) chosen.rejected.add(hit.pair_id);
  update();
  remember(was ? 'Kept again; ' : 'Rejected; ');
}

function open(hit, card, one) {
  const isRejected = chosen.rejected.has(hit.pair_id);
  openDetail(hit, server, {
    reasons: [
      `found for ${one.name} by “${hit.prompt}”`,
      score(hit),
      filters.length ? `passes ${filters.join(' and ')}` : '',
      hit.folded?.length ? `${count(hit.folded.length, 'duplicate')} folded into it` : '',
      card?.title ? `not selected: ${card.title}` : '',
    ],
    actions: [
      { label: isRejected ? 'Keep' : 'Reject', run: () => reject(hit) },
      { label: 'Similar', run: () => go({ ...parse('#search'), pairs: [{ pair_id: hit.pair_id, weight: 1 }] }) },
    ],
    link: ({ pair_id }) => linkTo({ ...parse(location.hash), open: pair_id }),
  });
}

// Opens the pair that a link names, if it is among the hits.
function openLinked(id) {
  const found = sections.find(({ one }) => one.hits.some(hit => hit.pair_id === id));
  if (found && !byId('detail').open) open(found.one.hits.find(hit => hit.pair_id === id), null, found.one);
}
