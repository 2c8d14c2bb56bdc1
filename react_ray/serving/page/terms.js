// The row below the search field: the image and the pairs of a query, each with its weight and a button that removes
// it.
import { button, byId, element } from './element.js';
import { picture } from './picture.js';
import { keptImage } from './state.js';

// seen: hits by pair_id, for captions and pictures. change(changes): searches with a changed state.
export function terms(state, seen, server, change) {
  const image = state.image && keptImage(state.image);
  const shown = state.pairs.map(pair => marked(pair, seen.get(pair.pair_id), state.pairs, server, change));
  if (image) {
    const thumbnail = element('img', { src: image.url, alt: '', onerror: event => event.target.remove() });
    shown.unshift(term(sign(1), thumbnail, image.name, null, () => change({ image: '' })));
  }
  byId('terms').hidden = !shown.length;
  byId('terms').replaceChildren(...shown);
}

function marked(pair, hit, pairs, server, change) {
  const name = hit?.caption || `pair ${pair.pair_id}`;
  const others = pairs.filter(one => one !== pair);
  const label = `weight of ${name}`;
  const weight = element('input', { type: 'number', step: 'any', value: pair.weight, 'aria-label': label });
  weight.addEventListener('change', () => {
    const value = Number(weight.value);
    change({ pairs: value ? pairs.map(one => (one === pair ? { ...pair, weight: value } : one)) : others });
  });
  const thumbnail = hit?.image ? picture(hit, server) : null;
  return term(sign(pair.weight), thumbnail, name, weight, () => change({ pairs: others }));
}

const sign = weight => element('b', { class: weight < 0 ? 'sign minus' : 'sign' }, weight < 0 ? '−' : '+');

function term(mark, thumbnail, name, weight, remove) {
  const cross = button('×', remove, { 'aria-label': `Remove ${name} from the query` });
  return element('li', {}, mark, thumbnail, element('span', {}, name), weight, cross);
}
