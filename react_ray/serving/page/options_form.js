// The fields of the form of a mode: from the state into the form and back.

const NAMES = ['text', 'names', 'task', 'k', 'key', 'recall', 'dedup', 'quota', 'shown', 'templates'];
const filled = new WeakMap(); // what the state put last into the fields of a form
const SHOWN = {
  k: 'hits',
  key: 'key',
  recall: 'recall',
  dedup: 'duplicates above',
  quota: 'pairs per class',
  shown: 'pictures',
};

// A field changes only if the state did, so that what is being typed stays.
export function fill(form, state) {
  const values = { ...state, filters: state.filters.join('\n') };
  const last = filled.get(form) ?? {};
  filled.set(form, values);
  for (const name of [...NAMES, 'filters']) {
    const field = form.elements[name];
    if (field && (last[name] ?? '') !== (values[name] ?? '')) field.value = values[name] ?? '';
  }
  const changed = Object.keys(SHOWN)
    .filter(name => form.elements[name] && (state[name] ?? '') !== '')
    .map(name => `${SHOWN[name]} ${state[name]}`);
  form.querySelector('[data-changed]').textContent = [...changed, ...state.filters].join(' · ');
}

export function read(form) {
  const values = {};
  for (const name of NAMES) {
    const field = form.elements[name];
    if (field) values[name] = field.type === 'number' ? (field.value === '' ? null : Number(field.value)) : field.value;
  }
  return {
    ...values,
    filters: form.elements.filters.value
      .split('\n')
      .map(line => line.trim())
      .filter(Boolean),
  };
}

// Limits and names that this server has. A key without vectors cannot be chosen.
export function fit(form, server) {
  const compared = server.columns.filter(({ name, type }) => name !== 'pair_id' && !type.startsWith('list'));
  const columns = compared.map(column => column.name);
  form.querySelector('[data-columns]').textContent = columns.length ? `Columns: ${columns.join(', ')}` : '';
  if (form.elements.k) form.elements.k.max = server.limits.k;
  const keys = Object.keys(server.keys);
  for (const option of [...form.elements.key.options]) {
    if (option.value && !(option.value === 'both' ? keys.length > 1 : keys.includes(option.value))) option.remove();
  }
}

// Shows which field the server objects to; `field` is as in its error, such as filters or query.text.
export function blame(form, field) {
  for (const one of form.elements) one.removeAttribute('aria-invalid');
  const found = field && [...form.elements].find(one => one.name && field.split(/[.[]/).includes(one.name));
  if (!found) return;
  found.setAttribute('aria-invalid', 'true');
  found.closest('details')?.setAttribute('open', '');
}
