// "Save as recipe": downloads the YAML of what is on the page, and shows the command that runs it.
import { ask } from './api.js';
import { copyButton, element } from './element.js';

// recipe(): the body of POST /v1/recipe without its name. name: of the recipe unless the user says
// otherwise.
export function saver({ recipe, name }) {
  const field = element('input', {
    value: name.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[._-]+/, ''),
    required: true,
    pattern: '[A-Za-z0-9][A-Za-z0-9._\\-]*',
    maxLength: 100,
    title: 'letters, digits, dots, - and _',
    autocomplete: 'off',
    spellcheck: false,
  });
  const result = element('div', { role: 'status' });
  const form = element('form', { class: 'save' },
    element('label', {}, 'Name of the recipe ', field),
    element('button', { type: 'submit', class: 'main' }, 'Save as recipe'));
  form.addEventListener('submit', event => {
    event.preventDefault();
    save(field.value, recipe(), result);
  });
  return element('div', {}, form, result);
}

async function save(name, body, result) {
  try {
    const { yaml, command } = await ask('/v1/recipe', { name, ...body });
    const file = command.split(' ').at(-1);
    const href = URL.createObjectURL(new Blob([yaml], { type: 'application/yaml' }));
    const link = element('a', { href, download: file }, file);
    result.replaceChildren(
      element('p', {}, link, ' is saved. This command runs it:'),
      element('div', { class: 'command' }, element('code', {}, command), copyButton(command)),
      element('details', {}, element('summary', {}, 'Show the recipe'),
        element('pre', { tabIndex: 0, 'aria-label': 'the recipe' }, element('code', {}, yaml))),
    );
    link.click();
  } catch (error) {
    result.replaceChildren(element('p', { class: 'error' }, error.message));
  }
}
