// What the page shows, written into the address after #, so that a link or the back button brings it again.
//
// An image that was dropped is not in the address: `image` names it in the memory of this tab.

const NUMBERS = ['k', 'recall', 'dedup', 'quota', 'shown', 'min_score', 'open'];
const TEXTS = ['text', 'image', 'key', 'names', 'task', 'templates'];
const images = new Map();

// {mode, text, image, pairs: [{pair_id, weight}], filters, rejected, k, ...}: texts are '' and numbers null where the
// address says nothing.
export function parse(hash) {
  const [mode, query = ''] = hash.replace(/^#/, '').split(/\?(.*)/s);
  const params = new URLSearchParams(query);
  const state = { mode: mode === 'classes' ? 'classes' : 'search', filters: params.getAll('filter') };
  for (const name of TEXTS) state[name] = params.get(name) ?? '';
  for (const name of NUMBERS) state[name] = number(params.get(name));
  state.pairs = params
    .getAll('pair')
    .map(pair => {
      const [id, weight = '1'] = pair.split(':');
      return { pair_id: number(id), weight: number(weight) ?? 1 };
    })
    .filter(pair => pair.pair_id !== null);
  state.rejected = new Set(
    (params.get('rejected') ?? '')
      .split(',')
      .map(number)
      .filter(id => id !== null),
  );
  return state;
}

export function format(state) {
  const params = new URLSearchParams();
  for (const name of TEXTS) if (state[name]) params.set(name, state[name]);
  for (const { pair_id, weight } of state.pairs ?? []) params.append('pair', `${pair_id}:${weight}`);
  for (const filter of state.filters ?? []) params.append('filter', filter);
  for (const name of NUMBERS) if (number(state[name]) !== null) params.set(name, state[name]);
  if (state.rejected?.size) params.set('rejected', [...state.rejected].join(','));
  return `#${state.mode}${params.size ? `?${params}` : ''}`;
}

function number(text) {
  return text === null || text === undefined || text === '' || !Number.isFinite(Number(text)) ? null : Number(text);
}

// A new step that the back button leaves.
export function go(state) {
  const hash = format(state);
  if (hash === location.hash) window.dispatchEvent(new HashChangeEvent('hashchange'));
  else location.hash = hash;
}

// Writes a detail of the view (the open pair, a threshold, a rejected pair) into the address without a new step.
export function note(changes) {
  history.replaceState(null, '', format({ ...parse(location.hash), ...changes }));
}

export const linkTo = state => new URL(format(state), location.href).href;

// Keeps an image for this tab and returns its name in the address.
export function keepImage(name, base64, url) {
  const id = `${images.size + 1}-${name.replace(/[^\w.-]+/g, '_').slice(-40)}`;
  images.set(id, { name, base64, url });
  return id;
}

export const keptImage = id => images.get(id) ?? null;
