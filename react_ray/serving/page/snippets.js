// Writes the current view as a curl command and as a Python program, for a shell and for a notebook.
import { byId, copyButton, element } from './element.js';

const IMAGE = 'photo.jpg';

// A closed panel with both; body is what the page sent to `path`.
export function snippets(path, body, server) {
  const shown = { curl: curl(path, body, server.key_required), Python: python(path, body, server.key_required) };
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

// The same body with each image replaced by what `image()` gives, as JSON.
function json(body, replacement, indent) {
  return JSON.stringify(
    body,
    (name, value) => (name === 'image' && typeof value === 'string' ? replacement : value),
    indent,
  );
}

function curl(path, body, withKey) {
  const quoted = json(body, '\u0000', 1)
    .replace(/\n\s*/g, ' ')
    .replaceAll("'", "'\\''")
    .replaceAll('\\u0000', `'"$(base64 -w0 ${IMAGE})"'`);
  const key = withKey ? ' -H "Authorization: Bearer $API_KEY"' : '';
  return `curl -s ${address(path)} -H 'Content-Type: application/json'${key} \\\n  -d '${quoted}'`;
}

function python(path, body, withKey) {
  const text = json(body, '\u0000', 4);
  const hasImage = text.includes('"\\u0000"');
  const literal = pythonLiteral(JSON.parse(text)).replaceAll('"\\u0000"', 'image');
  const key = ', "Authorization": f"Bearer {os.environ[\'API_KEY\']}"';
  const imports = ['json', 'urllib.request', ...(hasImage ? ['base64'] : []), ...(withKey ? ['os'] : [])].sort();
  return [
    ...imports.map(name => `import ${name}`),
    '',
    ...(hasImage ? [`image = base64.b64encode(open("${IMAGE}", "rb").read()).decode()`] : []),
    `body = ${literal}`,
    `headers = {"Content-Type": "application/json"${withKey ? key : ''}}`,
    `request = urllib.request.Request("${address(path)}", json.dumps(body).encode(), headers)`,
    'answer = json.load(urllib.request.urlopen(request))',
    ...(path.endsWith('search')
      ? ['for hit in answer["results"][0]["hits"]:', '    print(hit["pair_id"], hit["score"], hit["caption"])']
      : ['for one in answer["classes"]:', '    print(one["name"], one["num_hits"], one["flagged"])']),
  ].join('\n');
}

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
