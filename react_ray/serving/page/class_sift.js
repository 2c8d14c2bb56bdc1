// Filters and sorts the classes on the page.
import { count, element } from './element.js';

// The weakest first: flagged ones and those without pairs, then by how far the best pair stands out, then by the number
// of pairs.
const ORDERS = {
  'weakest first': (a, b, isWeakA, isWeakB) =>
    isWeakB - isWeakA || (a.z ?? Infinity) - (b.z ?? Infinity) || a.num_selected - b.num_selected,
  'as given': () => 0,
  'by name': (a, b) => a.name.localeCompare(b.name),
  'best score first': (a, b) => (b.scores[0] ?? -2) - (a.scores[0] ?? -2),
};

const isWeak = section => Boolean(section.one.flagged) || !section.numKept();

const sorted = (sections, order) =>
  [...sections].sort((a, b) => ORDERS[order](a.one, b.one, isWeak(a), isWeak(b)));

export const weakestFirst = sections => sorted(sections, 'weakest first');

// sections: as classSection gives them, in the order of the classes. list: the element that holds their nodes.
export function sift(sections, list, flagged) {
  const filter = element('input', { type: 'search', placeholder: 'class or caption', 'aria-label': 'find classes' });
  const choices = Object.keys(ORDERS).map(name => element('option', {}, name));
  const order = element('select', { 'aria-label': 'order' }, choices);
  const only = element('input', { type: 'checkbox' });
  const counted = element('span', { role: 'status', class: 'mute' });
  const texts = new Map(sections.map(({ one }) => [one, textOf(one)]));
  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let num = 0;
    for (const { node, one } of sections) {
      node.hidden = !words.every(word => texts.get(one).includes(word)) || (only.checked && !one.flagged);
      num += !node.hidden;
    }
    counted.textContent = `${num.toLocaleString('en')} of ${count(sections.length, 'class')}`;
  };
  filter.addEventListener('input', show);
  only.addEventListener('input', show);
  order.addEventListener('input', () => list.append(...sorted(sections, order.value).map(section => section.node)));
  show();
  const onlyFlagged = flagged ? element('label', {}, only, ' flagged only') : null;
  return element('div', { class: 'tools sift' }, filter, order, onlyFlagged, counted);
}

const textOf = one =>
  [one.name, ...(one.synonyms ?? []), ...one.hits.map(hit => hit.caption ?? '')].join(' ').toLowerCase();
