// The dialog of one pair: its image, why it was found, all of its columns, and what can be done with it.
import { ask } from './api.js';
import { button, byId, copyButton, element } from './element.js';
import { hostOf, picture } from './picture.js';
import { note } from './state.js';

let opener = null;

// hit: as the server gave it, or only {pair_id} when a link names a pair that is not among the hits. reasons: lines
// that say why it was found. actions: [{label, run()}], each of which closes the dialog. link(): address of this view.
export async function openDetail(hit, server, { reasons = [], actions = [], link }) {
  const dialog = byId('detail');
  if (!dialog.open) opener = document.activeElement;
  note({ open: hit.pair_id });
  const table = element('dl', { class: 'columns' });
  const shown = element('div', { class: 'large' });
  if (hit.score !== undefined) shown.append(picture(hit, server, hit.caption ?? ''));
  const title = element('h2', { id: 'detail-title' }, hit.caption || `Pair ${hit.pair_id}`);
  dialog.replaceChildren(
    element(
      'div',
      { class: 'detail-head' },
      title,
      button('Close', () => dialog.close(), { class: 'quiet', 'aria-keyshortcuts': 'Escape' }),
    ),
    element(
      'div',
      { class: 'detail-body' },
      shown,
      element(
        'div',
        {},
        element(
          'ul',
          { class: 'reasons' },
          reasons.filter(Boolean).map(reason => element('li', {}, reason)),
        ),
        element(
          'div',
          { class: 'bar' },
          actions.map(({ label, run }) =>
            button(
              label,
              () => {
                dialog.close();
                run();
              },
              { class: 'quiet' },
            ),
          ),
          copyButton(() => link(hit), 'Copy link'),
        ),
        table,
      ),
    ),
  );
  if (!dialog.open) dialog.showModal();
  try {
    const pair = await ask(`/v1/pairs/${hit.pair_id}`);
    if (Number(parseOpen()) !== hit.pair_id) return;
    if (!shown.firstChild)
      shown.append(picture({ image: pair.image, url: pair.columns.url }, server, pair.columns.caption ?? ''));
    if (!hit.caption && pair.columns.caption) title.textContent = pair.columns.caption;
    table.append(
      ...rows({ pair_id: hit.pair_id, ...pair.columns, ...(hit.folded?.length ? { folded: hit.folded } : {}) }),
    );
  } catch (error) {
    table.replaceWith(element('p', { class: 'error', role: 'alert' }, error.message));
  }
}

const parseOpen = () => new URLSearchParams(location.hash.split('?')[1] ?? '').get('open');

function rows(columns) {
  return Object.entries(columns)
    .filter(([, value]) => value !== null && value !== '')
    .map(([name, value]) => element('div', {}, element('dt', {}, name), element('dd', {}, cell(value))));
}

function cell(value) {
  if (typeof value === 'string' && hostOf(value)) {
    return element('a', { href: value, rel: 'noopener noreferrer', target: '_blank' }, value);
  }
  return typeof value === 'object' ? JSON.stringify(value).replaceAll('","', '", "') : String(value);
}

// Gives the focus back to the card, and takes the pair out of the address.
export function watchDetail() {
  byId('detail').addEventListener('close', () => {
    note({ open: null });
    if (opener?.isConnected) opener.focus();
  });
  byId('detail').addEventListener('click', event => {
    if (event.target === byId('detail')) byId('detail').close();
  });
}
