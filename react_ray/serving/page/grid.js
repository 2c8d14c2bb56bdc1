// A grid of hits. One of its cards is in the order of the Tab key, arrows move from card to card, and the other keys do
// what the view says.
import { element } from './element.js';
import { picture } from './picture.js';

// hits: as the server gives them. actions: buttons below each card, [{name, label, key, run(hit, card)}]; `open(hit,
// card)` is what Enter and a click do. describe(hit): further lines of the card.
export function grid(hits, server, { label, actions = [], open, describe = () => [] }) {
  const list = element('ul', { class: 'pairs', 'aria-label': label });
  list.append(...hits.map((hit, i) => card(hit, server, { actions, open, describe, isFirst: i === 0 })));
  list.addEventListener('keydown', event => onKey(event, list, actions));
  return list;
}

function card(hit, server, { actions, open, describe, isFirst }) {
  const caption = hit.caption || 'no caption';
  const made = element('li', { class: 'hit', 'data-pair': hit.pair_id });
  const face = element(
    'button',
    {
      type: 'button',
      class: 'face',
      tabIndex: isFirst ? 0 : -1,
      'aria-label': `${caption}, score ${hit.score.toFixed(3)}`,
      'aria-keyshortcuts': actions.map(action => action.key).join(' ') || null,
      onclick: () => open(hit, made),
      onfocus: () => roam(made),
    },
    picture(hit, server),
  );
  made.append(
    face,
    element(
      'div',
      { class: 'tools' },
      actions.map(action =>
        element(
          'button',
          {
            type: 'button',
            tabIndex: -1,
            title: `${action.label} (key ${action.key})`,
            'aria-label': `${action.label}: ${caption}`,
            'data-action': action.name,
            onclick: () => action.run(hit, made),
          },
          action.text,
        ),
      ),
    ),
    element(
      'p',
      { class: 'found' },
      score(hit)
        .split(' · ')
        .map(part => element('span', {}, part)),
    ),
    element('p', { class: hit.caption ? 'text' : 'text mute' }, caption),
    ...describe(hit).map(line => element('p', { class: 'others' }, line)),
  );
  made.hit = hit;
  return made;
}

export function score(hit) {
  const z = hit.z === null || hit.z === undefined ? '' : ` · z ${hit.z.toFixed(1)}`;
  return `${hit.key} ${hit.score.toFixed(3)}${z}`;
}

// The lines that a card adds if duplicates were folded into it.
export const folded = hit => (hit.folded?.length ? [`+ ${hit.folded.length} folded`] : []);

function roam(card) {
  for (const face of card.parentElement.querySelectorAll('.face')) face.tabIndex = face.parentElement === card ? 0 : -1;
}

function onKey(event, list, actions) {
  const card = event.target.closest('.hit');
  if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
  const action = actions.find(one => one.key.toLowerCase() === event.key.toLowerCase());
  if (action) {
    event.preventDefault();
    action.run(card.hit, card);
    return;
  }
  const cards = [...list.children];
  const at = cards.indexOf(card);
  const columns = numColumns(cards);
  const to = {
    ArrowRight: at + 1,
    ArrowLeft: at - 1,
    ArrowDown: at + columns,
    ArrowUp: at - columns,
    Home: 0,
    End: cards.length - 1,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const next = cards[to];
  next?.querySelector('.face').focus();
  next?.scrollIntoView({ block: 'nearest' });
}

function numColumns(cards) {
  const top = cards[0].offsetTop;
  const next = cards.findIndex(card => card.offsetTop > top);
  return next < 0 ? cards.length : next;
}
