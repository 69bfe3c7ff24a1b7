// The poses that the server found, over time, and how one is drawn. As signet_runtime/overlay does it for videos.

const KEYPOINTS = 133;
const CONFIDENT = 0.3; // a joint is moved between two poses if both are surer of it than this
const TOGETHER = 0.5; // seconds: poses further apart have nothing to do with each other
const FAINTEST = 0.05; // of opacity: less cannot be seen

export class PoseTrack {
  constructor() {
    this.times = [];
    this.poses = []; // each x, y, score of every keypoint
  }

  get until() {
    return this.times.length ? this.times[this.times.length - 1] : 0;
  }

  /** Keep a pose; they come in the order of time. */
  add({ time, keypoints, scores }) {
    const pose = new Float32Array(3 * KEYPOINTS);
    for (let joint = 0; joint < KEYPOINTS; joint++) {
      pose[3 * joint] = keypoints[joint][0];
      pose[3 * joint + 1] = keypoints[joint][1];
      pose[3 * joint + 2] = scores[joint];
    }
    this.times.push(time);
    this.poses.push(pose);
  }

  /** Return the pose at a time, between two poses on the straight line from one to the other; null far from any. */
  at(time) {
    const after = firstAfter(this.times, time);
    const before = after - 1;
    const first = this.poses[before] ?? this.poses[after];
    const second = this.poses[after] ?? first;
    const [from, to] = [this.times[before] ?? this.times[after], this.times[after] ?? this.times[before]];
    if (!first || time < from - TOGETHER || time > to + TOGETHER) return null;
    const gap = to - from;
    const part = gap > 0 ? Math.min(1, Math.max(0, (time - from) / gap)) : 0;
    const nearer = part > 0.5 ? second : first;
    const pose = nearer.slice();
    if (gap > TOGETHER) return pose;
    for (let i = 0; i < pose.length; i += 3) {
      if (first[i + 2] <= CONFIDENT || second[i + 2] <= CONFIDENT) continue;
      for (const k of [i, i + 1, i + 2]) pose[k] = first[k] + part * (second[k] - first[k]);
    }
    return pose;
  }
}

/** Return how many of the times are at or before one. */
export function firstAfter(times, time) {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= time) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class Sketch {
  /** @param regions joints, edges and colour of each, as the server tells them. */
  constructor(canvas, regions) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.regions = Object.entries(regions);
  }

  clear() {
    this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Draw a pose on all of the canvas, `weight` times as thick as usual; opacity is how sure the estimator was. */
  draw(pose, weight = 1) {
    const { canvas, pen } = this;
    const [width, height] = fit(canvas);
    this.clear();
    if (!pose) return;
    const thick = weight * Math.max(1.5, (0.55 * Math.min(width, height)) / 100);
    pen.lineCap = "round";
    for (const [name, { joints, edges, colour }] of this.regions) {
      const line = thick * ({ body: 1, face: 0.6 }[name] ?? 0.8);
      const radius = line * (name === "body" ? 1.2 : 0.9);
      const seen = edges
        .map(([a, b]) => [3 * a, 3 * b, Math.min(pose[3 * a + 2], pose[3 * b + 2])])
        .filter(([, , opacity]) => opacity > FAINTEST);
      const stroke = (style, wide, strength) => {
        pen.strokeStyle = style;
        pen.lineWidth = wide;
        for (const [a, b, opacity] of seen) {
          pen.globalAlpha = strength * Math.min(1, opacity);
          pen.beginPath();
          pen.moveTo(pose[a] * width, pose[a + 1] * height);
          pen.lineTo(pose[b] * width, pose[b + 1] * height);
          pen.stroke();
        }
      };
      stroke("#000", line + Math.max(2, line), 0.6); // a dark rim, so that a colour is seen on any ground
      stroke(colour, line, 1);
      pen.fillStyle = colour;
      for (const joint of joints) {
        const opacity = pose[3 * joint + 2];
        if (opacity <= FAINTEST) continue;
        pen.globalAlpha = Math.min(1, opacity);
        pen.beginPath();
        pen.arc(pose[3 * joint] * width, pose[3 * joint + 1] * height, radius, 0, 2 * Math.PI);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
  }
}

/** Give a canvas the pixels that it is shown at; return its width and height. */
export function fit(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) =>
    Math.round(side * (window.devicePixelRatio || 1)),
  );
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  return [width, height];
}
