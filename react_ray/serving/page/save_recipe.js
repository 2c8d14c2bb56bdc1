// "Save as recipe": downloads the YAML of what is on the page, and shows the command that runs it.
import { ask } from './api.js';
import { copyButton, element } from './element.js';

// recipe(): the body of POST /v1/recipe without its name. name: of the recipe unless the user says
// otherwise.
export function saver({ recipe, name }) {
  const field = element('input', {
    value: name,
    required: true,
    pattern: '[A-Za-z0-9._\\-]+',
    title: 'letters, digits, dots, - and _',
    autocomplete: 'off',
    spellcheck: false,
  });
  const result = element('div', { role: 'status' });
  const form = element(
    'form',
    {
      class: 'save',
      onsubmit: event => {
        event.preventDefault();
        save(field.value, recipe(), result);
      },
    },
    element('label', {}, 'Name of the recipe ', field),
    element('button', { type: 'submit', class: 'main' }, 'Save as recipe'),
  );
  return element('div', {}, form, result);
}

async function save(name, body, result) {
  try {
    const { yaml, command } = await ask('/v1/recipe', { name, ...body });
    const file = `${name}.yaml`;
    const shown = command.replace('FILE', file);
    const link = element(
      'a',
      { href: URL.createObjectURL(new Blob([yaml], { type: 'application/yaml' })), download: file },
      file,
    );
    result.replaceChildren(
      element('p', {}, link, ' is saved. It runs with'),
      element('div', { class: 'command' }, element('code', {}, shown), copyButton(shown)),
      element(
        'details',
        {},
        element('summary', {}, 'the recipe'),
        element('pre', { tabIndex: 0 }, element('code', {}, yaml)),
      ),
    );
    link.click();
  } catch (error) {
    result.replaceChildren(element('p', { class: 'error' }, error.message));
  }
}
