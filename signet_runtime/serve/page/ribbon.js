// The ribbon: what a waveform is for sound, for hands. Left hand up, right hand down; sentences beneath; a mark where we are.

import { firstAfter, fit } from "./skeleton.js";

const CONFIDENT = 0.3;
const LIVE = 20; // seconds that are shown of what has no end
const LIVELY = 0.7; // shoulder widths a second at which a bar has 63% of its height
const [LEFT_SHOULDER, RIGHT_SHOULDER] = [5, 6]; // of COCO's keypoints

export class Ribbon {
  constructor(canvas, regions) {
    this.canvas = canvas;
    this.hands = [regions.left_hand, regions.right_hand];
    this.clear();
  }

  clear() {
    this.steps = []; // from a pose to the next: {start, heights}
    this.ends = []; // of the steps
    this.last = null;
    this.width = 0.2; // of the shoulders, in widths of the picture, until they are seen
  }

  /** Note how much each hand has moved since the pose before. */
  add({ time, keypoints, scores }) {
    if (Math.min(scores[LEFT_SHOULDER], scores[RIGHT_SHOULDER]) > CONFIDENT) {
      this.width = Math.max(0.02, apart(keypoints[LEFT_SHOULDER], keypoints[RIGHT_SHOULDER]));
    }
    if (this.last && time > this.last.time) {
      const seconds = time - this.last.time;
      const heights = this.hands.map(({ joints }) => {
        const both = joints.filter((j) => Math.min(scores[j], this.last.scores[j]) > CONFIDENT);
        if (!both.length || seconds > 1) return null; // not seen: there is no bar, where one at rest has a low one
        const moved = both.reduce((sum, j) => sum + apart(keypoints[j], this.last.keypoints[j]), 0) / both.length;
        return 1 - Math.exp(-moved / this.width / seconds / LIVELY);
      });
      this.steps.push({ start: this.last.time, heights });
      this.ends.push(time);
    }
    this.last = { time, keypoints, scores };
  }

  /** Return the heights of `count` bars, each of so many seconds from `from` on: the highest within it, or between two. */
  between(from, seconds, count) {
    const found = Array(count).fill(null);
    const { steps } = this;
    let next = firstAfter(this.ends, from);
    for (let i = 0; i < count && next < steps.length; i++) {
      const [start, end] = [from + i * seconds, from + (i + 1) * seconds];
      while (next < steps.length && this.ends[next] <= start) next++;
      for (let k = next; k < steps.length && steps[k].start < end; k++) {
        const heights = this.at(k, (start + end) / 2);
        found[i] = found[i] ? found[i].map((height, hand) => higher(height, heights[hand])) : heights;
      }
    }
    return found;
  }

  /** The heights of a step at a time in it, on the way from its neighbours'. */
  at(index, time) {
    const step = this.steps[index];
    const centre = (step.start + this.ends[index]) / 2;
    const other = this.steps[index + (time < centre ? -1 : 1)] ?? step;
    const part = Math.min(0.5, Math.abs(time - centre) / (this.ends[index] - step.start));
    return step.heights.map((height, hand) => (height === null ? null : height + part * ((other.heights[hand] ?? height) - height)));
  }

  /**
   * @param {{position: number, duration: number | null, read: number, sentences: {start: number, end: number}[],
   *   partial: number | null}} what seconds; a duration of null is live; partial is where an unfinished sentence began.
   */
  draw({ position, duration, read, sentences, partial }) {
    const [width, height] = fit(this.canvas);
    if (!width) return;
    const pen = this.canvas.getContext("2d");
    const colours = getComputedStyle(this.canvas);
    const colour = (name) => colours.getPropertyValue(name).trim();
    const scale = window.devicePixelRatio || 1;
    const from = duration === null ? Math.max(0, position - LIVE) : 0;
    const span = duration === null ? LIVE : Math.max(duration, 0.1);
    const x = (time) => ((time - from) / span) * width;
    const lane = 14 * scale; // for the sentences, beneath
    const middle = (height - lane) / 2;
    pen.clearRect(0, 0, width, height);

    pen.fillStyle = colour("--faint");
    pen.fillRect(0, middle - scale / 2, x(Math.min(read, from + span)), scale);
    for (let dot = x(read); dot < width; dot += 6 * scale) pen.fillRect(dot, middle - scale / 2, 2 * scale, scale);

    const pitch = 5 * scale; // from bar to bar, however long it is
    const bars = this.between(from, span / (width / pitch), Math.ceil(width / pitch));
    this.hands.forEach(({ colour: ink }, hand) => {
      pen.fillStyle = ink;
      pen.beginPath();
      bars.forEach((heights, i) => {
        if (!heights || heights[hand] === null) return;
        const high = Math.max(1.5 * scale, heights[hand] * (middle - 2 * scale));
        pen.roundRect(i * pitch, hand === 0 ? middle - high : middle, 3 * scale, high, 1.5 * scale);
      });
      pen.fill();
    });

    const spans = sentences.map(({ start, end }) => [start, end, position >= start && position < end]);
    if (partial !== null) spans.push([partial, Math.max(partial, read), duration === null]);
    for (const [start, end, now] of spans) {
      pen.fillStyle = colour(now ? "--ink" : "--span");
      pen.beginPath();
      pen.roundRect(x(start) + scale, height - 7 * scale, Math.max(4 * scale, x(end) - x(start) - 2 * scale), 4 * scale, 2 * scale);
      pen.fill();
    }

    if (duration !== null) {
      pen.fillStyle = colour("--ink");
      pen.fillRect(Math.min(width - 2 * scale, x(position)), 0, 2 * scale, height);
    }
  }
}

function higher(one, other) {
  return one === null || other === null ? (one ?? other) : Math.max(one, other);
}

function apart([x, y], [u, v]) {
  return Math.hypot(x - u, y - v);
}
