// The picture of a hit: the stored image, else that of its address if the server allows the host, else a placeholder.
import { fetchBlob } from './api.js';
import { element } from './element.js';

const near = new IntersectionObserver(
  entries => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      fetchBlob(target.dataset.image).then(
        blob => {
          target.src = URL.createObjectURL(blob);
        },
        () => target.dispatchEvent(new Event('error')),
      );
    }
  },
  { rootMargin: '300px' },
);

// The text beside a picture says what is on it, so the picture itself has none unless `alt` is given.
export function picture(hit, server, alt = '') {
  const source = hit.image ? hit.image.replace(/^\//, '') : allowed(hit.url, server) ? hit.url : null;
  if (!source) return placeholder(hit.url ? 'image not stored' : 'no image');
  const image = element('img', { alt, loading: 'lazy', decoding: 'async', referrerPolicy: 'no-referrer' });
  image.addEventListener('error', () => image.replaceWith(placeholder('image does not load')));
  if (hit.image && server.key_required) {
    image.addEventListener('load', () => URL.revokeObjectURL(image.src));
    image.dataset.image = hit.image;
    near.observe(image);
  } else {
    image.src = source;
  }
  return image;
}

function placeholder(why) {
  return element('span', { class: 'missing' }, why);
}

// Whether the page may load the image of this address: the server names the hosts, `*.host` also for those below.
function allowed(url, server) {
  const host = hostOf(url);
  return (
    host !== null &&
    server.image_hosts.some(name => {
      const wanted = name.replace(/^https?:\/\//, '');
      return wanted === host || (wanted.startsWith('*.') && host.endsWith(wanted.slice(1)));
    })
  );
}

// The host of a web address, null for anything else.
export function hostOf(url) {
  try {
    const { protocol, host } = new URL(url);
    return /^https?:$/.test(protocol) ? host : null;
  } catch {
    return null;
  }
}
