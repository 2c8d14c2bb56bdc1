// The histogram of scores with the threshold in it, which is dragged there or moved by the range input of the page.
import { element, shape } from './element.js';

const WIDTH = 300;
const NUM_BINS = 40;

// The range that all histograms share, so that one threshold stands at the same place in each: [low, high].
export function extent(classes) {
  let low = Infinity;
  let high = -Infinity;
  for (const { scores } of classes) {
    for (const score of scores) {
      low = Math.min(low, score);
      high = Math.max(high, score);
    }
  }
  return low < high ? [low, high] : [Number.isFinite(low) ? low - 0.01 : 0, Number.isFinite(high) ? high + 0.01 : 1];
}

// scores: any order. range: as extent gives it. onmove(score): called while the threshold is dragged.
// Returns {node, place(threshold)}; null places no threshold.
export function histogram(scores, [low, high], height, onmove, label) {
  const x = score => ((Math.min(Math.max(score, low), high) - low) / (high - low)) * WIDTH;
  const bins = new Array(NUM_BINS).fill(0);
  for (const score of scores) bins[Math.min(NUM_BINS - 1, Math.floor((x(score) / WIDTH) * NUM_BINS))] += 1;
  const most = Math.max(1, ...bins);
  const wide = WIDTH / NUM_BINS;
  const path = bins
    .map((bin, i) => {
      const tall = bin ? Math.max(1.5, (bin / most) * (height - 4)) : 0;
      return bin
        ? `M${(i * wide + 0.5).toFixed(1)} ${height}v${-tall.toFixed(1)}h${(wide - 1).toFixed(1)}V${height}Z`
        : '';
    })
    .join('');
  const veil = shape('rect', { class: 'veil', x: 0, y: 0, height, width: 0 });
  const line = shape('line', { class: 'threshold', y1: 0, y2: height, x1: -9, x2: -9 });
  const plot = shape(
    'svg',
    {
      viewBox: `0 0 ${WIDTH} ${height}`,
      class: 'histogram',
      preserveAspectRatio: 'none',
      role: 'img',
      'aria-label': label,
    },
    shape('path', { class: 'bins', d: path }),
    veil,
    line,
    shape('line', { class: 'base', x1: 0, x2: WIDTH, y1: height, y2: height }),
  );
  drag(plot, share => onmove(low + share * (high - low)));
  return {
    node: element(
      'div',
      { class: 'plot' },
      plot,
      element(
        'div',
        { class: 'ends', 'aria-hidden': 'true' },
        element('span', {}, low.toFixed(2)),
        element('span', {}, high.toFixed(2)),
      ),
    ),
    place(threshold) {
      const at = threshold === null ? -9 : x(threshold);
      veil.setAttribute('width', Math.max(0, at));
      line.setAttribute('x1', at);
      line.setAttribute('x2', at);
    },
  };
}

// onshare: gets the share of the width at which the pointer is.
function drag(plot, onshare) {
  const move = event => {
    const { left, width } = plot.getBoundingClientRect();
    onshare(Math.min(1, Math.max(0, (event.clientX - left) / width)));
  };
  plot.addEventListener('pointerdown', event => {
    plot.setPointerCapture(event.pointerId);
    move(event);
  });
  plot.addEventListener('pointermove', event => {
    if (plot.hasPointerCapture(event.pointerId)) move(event);
  });
}
