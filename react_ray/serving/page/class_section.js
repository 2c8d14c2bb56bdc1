// One class of the mode "Classes": its measures, its histogram and the grid of its best pairs.
import { count, element } from './element.js';
import { folded, grid } from './grid.js';
import { histogram } from './histogram.js';

// The grids of classes far from the window are neither built nor kept up to date: a task may have thousands of classes.
const near = new IntersectionObserver(
  entries => {
    for (const { target, isIntersecting } of entries) target.come(isIntersecting);
  },
  { rootMargin: '600px' },
);

// one: a class of the answer, of which `scores` has all. choice(): {threshold, quota, rejected} of the whole page.
// Returns {node, one, update(), numKept()}.
export function classSection(one, server, { range, choice, onthreshold, onreject, open }) {
  const plot = histogram(one.scores, range, 44, onthreshold, `Histogram of the scores of ${one.name}`);
  const counted = element('span');
  const body = element('div');
  const synonyms = one.synonyms?.length ? element('small', {}, one.synonyms.join(', ')) : null;
  const facts = measures(one).map(text => element('span', {}, text));
  const node = element('section', { class: 'entry', 'aria-label': one.name },
    element('div', { class: 'about' },
      element('h2', {}, one.name, ' ', synonyms),
      one.flagged ? element('p', { class: 'warning' }, one.flagged) : null,
      element('p', { class: 'measures' }, counted, facts),
      plot.node),
    body);
  let list = null;
  let isNear = false;
  node.come = isIntersecting => {
    isNear = isIntersecting;
    if (!isNear) return;
    if (!body.firstChild) {
      list = pairs();
      body.replaceChildren(...(list ? [list, element('p', { class: 'between' }, more(one))] : [more(one)]));
    }
    update();
  };
  near.observe(node);

  function pairs() {
    if (!one.hits.length) return null;
    return grid(one.hits, server, {
      label: `Pairs of ${one.name}`,
      open: (hit, card) => open(hit, card, one),
      describe: folded,
      actions: [{ name: 'reject', text: '×', label: 'Reject', key: 'x', run: hit => onreject(hit) }],
    });
  }

  function numKept() {
    const { threshold, rejected } = choice();
    const numAbove = threshold === null ? one.scores.length : numAtLeast(one.scores, threshold);
    const isLost = hit => rejected.has(hit.pair_id) && (threshold === null || hit.score >= threshold);
    const numLost = rejected.size ? one.hits.filter(isLost).length : 0;
    return Math.min(one.num_selected, numAbove - numLost);
  }

  function update() {
    if (!isNear) return;
    const { threshold, quota, rejected } = choice();
    const kept = numKept();
    // Below the last of the hits there may be more pairs that pass.
    const isOpen = kept < Math.min(quota, one.num_selected) && (threshold === null || one.scores.at(-1) >= threshold);
    const number = element('b', {}, `${isOpen ? 'at least ' : ''}${kept.toLocaleString('en')}`);
    counted.replaceChildren(number, ` of ${count(quota, 'pair')}`);
    node.classList.toggle('short', kept < quota && !isOpen);
    plot.place(threshold);
    let numTaken = 0;
    for (const card of list?.children ?? []) {
      const why = numTaken < one.num_selected ? whyNot(card.hit, choice()) : 'beyond the pairs per class';
      numTaken += why === '';
      card.title = why;
      card.classList.toggle('out', why !== '');
      card.classList.toggle('rejected', rejected.has(card.hit.pair_id));
      card.querySelector('[data-action=reject]').setAttribute('aria-pressed', rejected.has(card.hit.pair_id));
    }
  }
  return { node, one, update, numKept };
}

// How many scores, which come best first, are no lower than the threshold.
function numAtLeast(scores, threshold) {
  let [low, high] = [0, scores.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (scores[middle] >= threshold) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Why a hit is not selected; '' if it is.
function whyNot(hit, { threshold, rejected }) {
  if (rejected.has(hit.pair_id)) return 'rejected';
  return threshold !== null && hit.score < threshold ? 'below the threshold' : '';
}

function more(one) {
  if (!one.hits.length) return '';
  const num = one.scores.length - one.hits.length;
  return num > 0 ? `${count(num, 'more pair')} in the histogram` : '';
}

function measures(one) {
  const { scores } = one;
  return [
    ...(scores.length ? [`score ${scores[0].toFixed(3)} to ${scores.at(-1).toFixed(3)}`] : []),
    ...(one.named === null || one.named === undefined ? [] : [`named by ${Math.round(one.named * 100)} % of captions`]),
    ...(one.z === null || one.z === undefined ? [] : [`z ${one.z.toFixed(1)}`]),
  ];
}
