// Asks the server. A failure is an ApiError with the server's sentence; the key of the API is asked for once per tab.
import { byId } from './element.js';

const KEY = 'react_ray key';

export class ApiError extends Error {
  // status: of HTTP, 0 if no answer came. field: the part of the request that is at fault, or null.
  constructor(status, message, field = null, retryAfterS = null) {
    super(message);
    Object.assign(this, { status, field, retryAfterS });
  }
}

export function authorization() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

// The JSON of an answer. A missing or wrong key opens the dialog, and the request is sent again with the new one.
export async function ask(path, body = null, signal = null) {
  const response = await send(path, body, signal);
  if (response.status === 401) {
    await askForKey(Boolean(sessionStorage.getItem(KEY)), authorization().Authorization);
    return ask(path, body, signal);
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  const error = answer?.error ?? {
    message: `The server answered ${response.status} without a reason; look at its log.`,
  };
  throw new ApiError(
    response.status,
    error.message,
    error.field ?? null,
    Number(response.headers.get('Retry-After')) || null,
  );
}

// The bytes of a stored image as a blob, for servers that ask for a key: <img> sends no header.
export async function fetchBlob(path) {
  const response = await send(path, null, null);
  if (!response.ok) throw new ApiError(response.status, 'The image does not load.');
  return response.blob();
}

async function send(path, body, signal) {
  const headers = { ...authorization(), ...(body === null ? {} : { 'Content-Type': 'application/json' }) };
  try {
    return await fetch(new URL(path.replace(/^\//, ''), document.baseURI), {
      method: body === null ? 'GET' : 'POST',
      headers,
      signal,
      body: body === null ? null : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, 'The server does not answer; check that it still runs, then try again.');
  }
}

let asking = null;

// Resolves when a key is given that differs from the one that was refused. Requests that wait share one dialog.
function askForKey(refused, sent) {
  if (sent !== authorization().Authorization) return Promise.resolve();
  asking ??= new Promise(resolve => {
    const dialog = byId('key-dialog');
    const error = byId('key-error');
    error.hidden = !refused;
    error.textContent = refused ? 'The server refused this key; type it again.' : '';
    byId('key').value = '';
    dialog.oncancel = event => event.preventDefault();
    dialog.onclose = () => {
      sessionStorage.setItem(KEY, byId('key').value);
      asking = null;
      resolve();
    };
    dialog.showModal();
  });
  return asking;
}

// Runs one request at a time: a newer one aborts the older one, whose answer is never shown.
export class Latest {
  #controller = null;

  // The answer of work(signal), or null if a newer request has come since.
  async run(work) {
    this.stop();
    const mine = (this.#controller = new AbortController());
    try {
      const answer = await work(mine.signal);
      return this.#controller === mine ? answer : null;
    } catch (error) {
      if (this.#controller !== mine) return null;
      throw error;
    }
  }

  stop() {
    this.#controller?.abort();
    this.#controller = null;
  }
}
