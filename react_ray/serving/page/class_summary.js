// The card above the classes: how many pairs are selected, the threshold, and "Save as recipe".
import { count, element } from './element.js';
import { histogram } from './histogram.js';
import { saver } from './save_recipe.js';

const HOW = 'One threshold holds for all classes.';
const KEYS = ' Arrows move between the pairs of a class, x rejects one, Enter opens it.';

// sections: as classSection gives them. choice(): {threshold, rejected}. onthreshold(score): called when it is moved.
// recipe(): what is saved. Returns {node, update(), numKept()}.
export function summary(sections, { range, choice, onthreshold, recipe }, name) {
  const scores = sections.flatMap(({ one }) => one.scores);
  const plot = histogram(scores, range, 70, onthreshold, 'Histogram of the scores of all classes');
  const slider = element('input', { type: 'range', id: 'threshold', step: 'any', min: range[0], max: range[1] });
  const value = element('output', { for: 'threshold' });
  const sum = element('p', { class: 'sum', id: 'sum' });
  slider.addEventListener('input', () => onthreshold(Number(slider.value)));
  const numKept = () => sections.reduce((pairs, section) => pairs + section.numKept(), 0);
  return {
    numKept,
    node: element('div', { class: 'card summary' },
      element('div', {}, sum, element('p', { class: 'note' }, HOW, element('span', { class: 'keys' }, KEYS))),
      element('div', {}, plot.node,
        element('label', { htmlFor: 'threshold', class: 'threshold-label' }, 'Lowest score ', value), slider),
      saver({ recipe, name })),
    update() {
      const { threshold, rejected } = choice();
      const kept = numKept();
      const empty = sections.filter(section => !section.numKept()).length;
      plot.place(threshold);
      slider.value = threshold ?? range[0];
      value.textContent = threshold === null ? 'none' : threshold.toFixed(3);
      slider.setAttribute('aria-valuetext', `${value.textContent}, ${count(kept, 'pair')}`);
      const rest = ` ${kept === 1 ? 'pair' : 'pairs'} of ${count(sections.length, 'class')}`;
      sum.replaceChildren(element('b', {}, kept.toLocaleString('en')), rest,
        rejected.size ? `, ${rejected.size} rejected` : '', empty ? `; ${count(empty, 'class')} without one` : '');
    },
  };
}
