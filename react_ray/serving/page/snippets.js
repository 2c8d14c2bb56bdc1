// Writes the current view as a curl command and as a Python program, for a shell and for a notebook. Both take the key of
// a server that asks for one from REACT_RAY_KEY.
import { byId, copyButton, element } from './element.js';

const IMAGE = 'photo.jpg';

// A closed panel with both; body is what the page sent to `path`.
export function snippets(path, body, server) {
  const shown = { curl: curl(path, body, server.key_required), Python: python(path, body) };
  const boxes = Object.entries(shown).map(([name, text]) =>
    element(
      'div',
      { class: 'snippet' },
      element('div', { class: 'snippet-head' }, element('h3', {}, name), copyButton(text, `Copy ${name}`)),
      element('pre', { tabIndex: 0, 'aria-label': `${name} of this view` }, element('code', {}, text)),
    ),
  );
  return element(
    'details',
    { class: 'snippets', id: 'snippets', open: byId('snippets')?.open ?? false },
    element('summary', {}, 'This view as curl and Python'),
    ...boxes,
  );
}

const address = path => new URL(path.replace(/^\//, ''), document.baseURI).href;

// The body as JSON, with \u0000 in place of an image.
function json(body, indent) {
  const withoutImage = (name, value) => (name === 'image' && typeof value === 'string' ? '\u0000' : value);
  return JSON.stringify(body, withoutImage, indent);
}

// An image comes through a pipe, because it may be longer than an argument of a command can be.
function curl(path, body, withKey) {
  const quoted = json(body, 1).replace(/\n\s*/g, ' ').replaceAll("'", "'\\''");
  const key = withKey ? ' -H "Authorization: Bearer $REACT_RAY_KEY"' : '';
  const command = `curl -s ${address(path)} -H 'Content-Type: application/json'${key}`;
  if (!quoted.includes('\\u0000')) return `${command} \\\n  -d '${quoted}'`;
  const piped = quoted.replaceAll('\\u0000', `'"$(base64 < ${IMAGE} | tr -d '\\n')"'`);
  return `printf '%s' '${piped}' | \\\n  ${command} -d @-`;
}

function python(path, body) {
  const [first, ...rest] = Object.entries(JSON.parse(json(body)));
  const literal = value => pythonLiteral(value).replaceAll('"\\u0000"', 'image');
  const isSearch = path.endsWith('search');
  const subject = first[0] === 'task' ? `task=${literal(first[1])}` : literal(isSearch ? first[1] : namesOf(first[1]));
  const call = [subject, ...rest.map(([name, value]) => `${name}=${literal(value)}`)].join(', ');
  const hasImage = call.includes(': image');
  return [
    ...(hasImage ? ['import base64', ''] : []),
    'import react_ray',
    '',
    ...(hasImage ? [`image = base64.b64encode(open("${IMAGE}", "rb").read()).decode()`] : []),
    `server = react_ray.connect("${address('').replace(/\/$/, '')}")`,
    `answer = server.${isSearch ? 'search' : 'classes'}(${call})`,
    ...(isSearch
      ? ['for hit in answer["results"][0]["hits"]:', '    print(hit["pair_id"], hit["score"], hit["caption"])']
      : ['for one in answer["classes"]:', '    print(one["name"], one["num_selected"], one["flagged"])']),
  ].join('\n');
}

const namesOf = classes => classes.map(({ name, synonyms }) => (synonyms.length ? [name, ...synonyms] : name));

// JSON as Python writes it; texts are the same in both languages.
function pythonLiteral(value) {
  if (value === null) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(', ')}]`;
  if (typeof value === 'object') {
    return `{${Object.entries(value)
      .map(([name, one]) => `${JSON.stringify(name)}: ${pythonLiteral(one)}`)
      .join(', ')}}`;
  }
  return JSON.stringify(value);
}
