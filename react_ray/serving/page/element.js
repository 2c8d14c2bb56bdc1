// Builds the parts of the page. Whatever comes from the server is put in as text, never as HTML.

export const byId = id => document.getElementById(id);

// An element with properties and children. A property that the element does not have (aria-label, data-x) becomes an
// attribute; null and false leave it out. A child is a node or a text; null is left out.
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  set(made, properties);
  made.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false));
  return made;
}

// The same for the shapes of a chart.
export function shape(tag, attributes, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function set(node, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'class') node.className = value;
    else if (name in node && name !== 'list') node[name] = value;
    else if (value !== false) node.setAttribute(name, value);
  }
}

export function button(text, onclick, properties = {}) {
  return element('button', { type: 'button', onclick, ...properties }, text);
}

// Says a sentence to users of a screen reader.
export function say(sentence) {
  byId('status').textContent = sentence;
}

export const count = (number, noun) =>
  `${number.toLocaleString('en')} ${number === 1 ? noun : noun.endsWith('s') ? `${noun}es` : `${noun}s`}`;

// A button that puts a text on the clipboard and says so for a moment.
export function copyButton(text, label = 'Copy') {
  const made = button(
    label,
    async () => {
      try {
        await navigator.clipboard.writeText(typeof text === 'function' ? text() : text);
        made.textContent = 'Copied';
        say('Copied.');
      } catch {
        made.textContent = 'Select the text and copy it by hand';
      }
      setTimeout(() => {
        made.textContent = label;
      }, 2000);
    },
    { class: 'quiet' },
  );
  return made;
}
