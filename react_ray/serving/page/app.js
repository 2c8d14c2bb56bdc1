// The page of `react-ray serve`: asks what the server has, then shows the mode that the address names.
//
// Next: search_view.js and classes_view.js, the two modes.
import { ask } from './api.js';
import { failure, put } from './answer.js';
import * as classes from './classes_view.js';
import { watchDetail } from './detail.js';
import { byId, element } from './element.js';
import * as search from './search_view.js';
import { format, parse } from './state.js';

const MODES = { search, classes };
const NUM_EXAMPLES = 8;
const last = { search: '#search', classes: '#classes' }; // where each mode was left

async function start() {
  try {
    const [server, tasks] = await Promise.all([ask('/v1/index'), ask('/v1/tasks')]);
    head(server);
    const own = tasks.tasks.filter(task => tasks.own.includes(task.name));
    const most = Math.ceil(NUM_EXAMPLES / Math.max(1, own.length));
    search.start(server, own.flatMap(task => spread(task.classes, most)).slice(0, NUM_EXAMPLES));
    classes.start(server, tasks);
  } catch (error) {
    put(failure(error, start));
    return;
  }
  watchDetail();
  addEventListener('hashchange', route);
  route();
}

const spread = (all, most) => all.filter((_, i) => i % Math.ceil(all.length / most) === 0);

function head(server) {
  document.title = `${server.name} – react_ray`;
  byId('database').textContent = server.name;
  const keys = Object.entries(server.keys).map(([key, { vectors }]) => `${vectors.toLocaleString('en')} ${key}`);
  const facts = {
    pairs: (server.pairs - (server.deleted ?? 0)).toLocaleString('en'),
    vectors: keys.join(', '),
    model: server.backbone.name,
    index: server.kind,
    version: server.index_version,
  };
  byId('facts').replaceChildren(
    ...Object.entries(facts)
      .filter(([, value]) => value)
      .map(([name, value]) =>
        element(
          'div',
          {},
          element('dt', {}, name),
          element('dd', { title: value }, String(value).split('/').at(-1).slice(0, 40)),
        ),
      ),
  );
}

// A threshold or a rejected pair changed the address since the last step; the mode that is left keeps both.
function route(event = null) {
  const state = parse(location.hash);
  if (event?.oldURL) {
    const left = parse(new URL(event.oldURL).hash);
    last[left.mode] = format({ ...left, open: null });
  }
  last[state.mode] = format({ ...state, open: null });
  for (const [mode, view] of Object.entries(MODES)) {
    const isShown = mode === state.mode;
    const tab = byId(`tab-${mode}`);
    byId(mode).hidden = !isShown;
    if (isShown) tab.setAttribute('aria-current', 'page');
    else tab.removeAttribute('aria-current');
    tab.href = last[mode];
    if (!isShown) view.hide();
  }
  if (byId('results').dataset.mode !== state.mode) {
    byId('results').dataset.mode = state.mode;
    put();
  }
  if (byId('detail').open && state.open === null) byId('detail').close();
  MODES[state.mode].show(state);
}

start();
