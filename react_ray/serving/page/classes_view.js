// The mode "Classes": the form with names or a task, and what the server finds for each class.
//
// Next: class_results.js, which shows the answer.
import { ask, Latest } from './api.js';
import { failure, put, wait } from './answer.js';
import { restore, results, update } from './class_results.js';
import { byId, count, element, say } from './element.js';
import { blame, fill, fit, read } from './options_form.js';
import { options, parseClasses } from './query.js';
import { go, parse } from './state.js';

const SHOWN = 24; // pictures per class
const latest = new Latest();
let server;
let tasks = new Map();
let shown = '';

// info: the answer of GET /v1/index. found: of GET /v1/tasks.
export function start(info, found) {
  server = info;
  tasks = new Map(found.tasks.map(task => [task.name, task]));
  const form = byId('classes-form');
  fit(form, server);
  form.elements.quota.placeholder = defaultQuota();
  addTasks('of this recipe', [...tasks.values()].filter(task => found.own.includes(task.name)));
  addTasks('built in', [...tasks.values()].filter(task => !found.own.includes(task.name)));
  byId('task').addEventListener('change', event => showTask(event.target.value));
  form.addEventListener('submit', event => {
    event.preventDefault();
    submit();
  });
}

export function hide() {
  latest.stop();
  shown = '';
}

function addTasks(label, group) {
  const choices = group.map(task => element('option', { value: task.name }, `${task.name} (${task.num_classes})`));
  if (choices.length) byId('task').append(element('optgroup', { label }, choices));
}

const defaultQuota = () => server.defaults.pairs_per_class;

function submit() {
  const fields = read(byId('classes-form'));
  const names = fields.task ? '' : fields.names;
  go({ ...parse(location.hash), ...fields, names, min_score: null, rejected: new Set(), open: null });
}

// With a task, its names stand beside the field for one's own, which is closed.
function showTask(name) {
  const task = tasks.get(name);
  const hint = byId('task-classes');
  byId('names').disabled = Boolean(task);
  hint.hidden = !task;
  if (!task) return;
  const more = task.num_classes - task.classes.length;
  const names = task.classes.join(', ') + (more > 0 ? ` and ${more} more` : '');
  hint.textContent = `${count(task.num_classes, 'class')}: ${names}`;
}

// The body of POST /v1/classes, or null if there is no class. Throws the sentence that says what is wrong with a name.
function classesBody(state) {
  const classes = state.task ? null : parseClasses(state.names);
  if (!state.task && !classes.length) return null;
  const templates = state.templates.split('\n').map(line => line.trim());
  return {
    ...(classes ? { classes } : { task: state.task }),
    ...(state.templates.trim() ? { templates: templates.filter(Boolean) } : {}),
    ...options(state),
    per_class: state.shown ?? SHOWN,
    ...(state.quota === null ? {} : { pairs_per_class: state.quota }),
  };
}

// Shows a state of the address: asks the server unless the same classes are on the page already.
export async function show(state, allowPartial = false) {
  const form = byId('classes-form');
  fill(form, state);
  showTask(state.task);
  restore(state, defaultQuota());
  try {
    const body = classesBody(state);
    if (!body) welcome();
    else if (shown !== JSON.stringify(body) || allowPartial) await search(body, allowPartial);
    else update();
  } catch (error) {
    fail(error);
  }
}

async function search(body, allowPartial) {
  blame(byId('classes-form'), null);
  shown = '';
  const numClasses = body.classes?.length ?? tasks.get(body.task)?.num_classes;
  wait(SHOWN, numClasses && `Searching for ${count(numClasses, 'class')}…`);
  const sent = allowPartial ? { ...body, allow_partial: true } : body;
  const answer = await latest.run(signal => ask('/v1/classes', sent, signal));
  if (!answer) return;
  shown = JSON.stringify(body);
  put(...results(body, answer, server));
  update();
  const flagged = answer.classes.filter(one => one.flagged).length;
  say(`${count(answer.classes.length, 'class')}, ${flagged} flagged.`);
}

function welcome() {
  latest.stop();
  shown = '';
  const how =
    'Write the names of your classes or choose a task, and look at the pairs that a retrieval would select for each. ' +
    'Reject what is wrong, set a threshold, and save the recipe of it.';
  put(element('div', { class: 'empty' }, element('h2', {}, 'Look before you train'), element('p', {}, how)));
  say('');
}

function fail(error) {
  say('');
  blame(byId('classes-form'), error.field);
  const isNames = error.status === undefined || /classes|names/.test(error.field ?? '');
  if (isNames) byId('names').setAttribute('aria-invalid', 'true');
  put(failure(error, partial => show(parse(location.hash), partial)));
}
