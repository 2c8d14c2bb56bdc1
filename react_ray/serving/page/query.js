// Turns the state of a search into the body of POST /v1/search, and tells what the query is in words.
import { keptImage } from './state.js';

export const DEFAULT_K = 20;
const URL_START = /^https?:\/\/\S+$/i;

// The parts of the query, each with its weight: [{weight, text | url | image | pair_id}].
export function parts(state, server) {
  const found = [];
  const text = state.text.trim();
  if (text) found.push({ weight: 1, ...(URL_START.test(text) && server.fetch_urls ? { url: text } : { text }) });
  const image = state.image && keptImage(state.image);
  if (image) found.push({ weight: 1, image: image.base64 });
  return [...found, ...state.pairs.map(({ pair_id, weight }) => ({ weight, pair_id }))];
}

// Why the state cannot be sent, or null.
export function objection(state, server) {
  if (state.image && !keptImage(state.image)) {
    return 'The image of this link was never sent anywhere, so it is not here any more; drop or choose it again.';
  }
  if (URL_START.test(state.text.trim()) && !server.fetch_urls) {
    return 'This server fetches no addresses (serve.fetch_urls); save the image and drop it here.';
  }
  const all = parts(state, server);
  if (all.length && all.every(part => part.weight <= 0)) {
    return 'Every part of the query is negative; mark a pair with +, or write a text.';
  }
  return null;
}

// The body of the request, or null if there is no query.
export function searchBody(state, server) {
  const all = parts(state, server);
  if (!all.length) return null;
  const [{ weight, ...only }] = all;
  const query = all.length === 1 && weight > 0 ? only : { sum: all };
  return { query, k: state.k ?? DEFAULT_K, ...options(state) };
}

// What both modes send, without what is left to the server.
export function options(state) {
  return {
    ...(state.key ? { key: state.key } : {}),
    ...(state.filters.length ? { filters: state.filters } : {}),
    ...(state.recall !== null ? { recall: state.recall } : {}),
    ...(state.dedup ? { dedup: state.dedup } : {}),
  };
}

export function inWords(state) {
  const words = [];
  if (state.text.trim()) words.push(`“${state.text.trim()}”`);
  if (state.image) words.push('your image');
  const [liked, disliked] = [1, -1].map(sign => state.pairs.filter(pair => pair.weight * sign > 0).length);
  if (liked) words.push(liked === 1 ? 'one pair' : `${liked} pairs`);
  return words.join(' and ') + (disliked ? `, away from ${disliked === 1 ? 'one pair' : `${disliked} pairs`}` : '');
}

// Names with synonyms after |, one class per line; a single line may also be split at commas. Throws a sentence.
export function parseClasses(text) {
  let lines = text
    .split('\n')
    .map(line => line.trim())
    .filter(Boolean);
  if (lines.length === 1)
    lines = lines[0]
      .split(',')
      .map(name => name.trim())
      .filter(Boolean);
  const classes = lines
    .map(line =>
      line
        .split('|')
        .map(name => name.trim())
        .filter(Boolean),
    )
    .filter(names => names.length)
    .map(([name, ...synonyms]) => ({ name, synonyms }));
  const seen = new Set();
  for (const { name } of classes) {
    if (seen.has(name)) throw new Error(`The class “${name}” is there twice; remove one of its lines.`);
    seen.add(name);
  }
  return classes;
}
