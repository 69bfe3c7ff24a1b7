// The camera: its pictures go to the server over a socket, sentences come back.

import { Problem, problemOf, renewToken, token } from "./api.js";

const LONGER_SIDE = 640; // pixels of what is sent: the estimators look at no more
const QUALITY = 0.85;
const BACKLOG = 400_000; // bytes that may wait for the network; a picture is left out beyond it rather than come late

const REFUSED = {
  NotAllowedError: "The camera may not be used: the browser, or the system, refused it. Allow it beside the address, then try again.",
  NotFoundError: "No camera was found. Connect one, then try again, or choose a video.",
  NotReadableError: "The camera cannot be opened; perhaps another program is using it. Close that, then try again.",
};
const NOT_SECURE =
  "Browsers let a page use the camera only on this computer (localhost) or over https, and this page came another way.";

/** Ask for the camera. */
export async function openCamera() {
  if (!navigator.mediaDevices) throw new Problem("camera", NOT_SECURE);
  try {
    const wanted = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 }, facingMode: "user" };
    return await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
  } catch (error) {
    throw new Problem("camera", REFUSED[error.name] ?? `The camera cannot be used: ${error.message || error.name}.`);
  }
}

/**
 * Send what the camera sees until told to stop; yields the server's events as they come, the last of which is `end`.
 *
 * @param {HTMLVideoElement} video shows the camera.
 * @param {string} model
 * @param {AbortSignal} stopping ends the sending: what has been signed is still read.
 */
export async function* stream(video, model, stopping) {
  for (;;) {
    const secret = token();
    try {
      yield* converse(video, model, secret, stopping);
      return;
    } catch (error) {
      if (error.code !== "unauthorised") throw error;
      await renewToken(secret);
    }
  }
}

async function* converse(video, model, secret, stopping) {
  const address = new URL(`v1/stream?model=${encodeURIComponent(model)}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  const waiting = new Inbox();
  let opened = false;
  let sender = null;
  socket.onopen = () => {
    opened = true;
    socket.send(JSON.stringify({ type: "start", source: "frames", ...(secret && { token: secret }) }));
  };
  socket.onmessage = ({ data }) => waiting.put(JSON.parse(data));
  socket.onclose = () => waiting.fail(closed(opened));
  const finish = () => {
    sender?.stop();
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "end" }));
    else socket.close();
  };
  stopping.addEventListener("abort", finish);
  try {
    for (;;) {
      const event = await waiting.take();
      if (event.type === "error") throw problemOf(event);
      if (event.type === "ready" && !stopping.aborted) sender = new Sender(video, socket, event.frame_rate);
      yield event;
      if (event.type === "end") return;
    }
  } finally {
    stopping.removeEventListener("abort", finish);
    sender?.stop();
    socket.onclose = null;
    socket.close();
  }
}

function closed(opened) {
  return opened
    ? new Problem("cut-off", "The server went away. What it had read until then is below.")
    : new Problem("unreachable", "The server does not take the camera’s pictures. See whether signet-serve still runs, then try again.");
}

/** Pictures of a video element, at the pace that the model wants, as binary messages: seconds (float64), then a JPEG. */
class Sender {
  constructor(video, socket, rate) {
    this.video = video;
    this.socket = socket;
    this.canvas = document.createElement("canvas");
    this.began = performance.now();
    this.busy = false;
    this.timer = setInterval(() => this.send(), 1000 / (rate || 25));
  }

  stop() {
    clearInterval(this.timer);
  }

  async send() {
    const { videoWidth: width, videoHeight: height } = this.video;
    const late = this.busy || this.socket.bufferedAmount > BACKLOG;
    if (late || !width || this.socket.readyState !== WebSocket.OPEN) return;
    this.busy = true;
    try {
      const seconds = (performance.now() - this.began) / 1000;
      const scale = Math.min(1, LONGER_SIDE / Math.max(width, height));
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
      this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
      const picture = await new Promise((done) => this.canvas.toBlob(done, "image/jpeg", QUALITY));
      const time = new DataView(new ArrayBuffer(8));
      time.setFloat64(0, seconds, true);
      if (picture && this.socket.readyState === WebSocket.OPEN) this.socket.send(new Blob([time, picture]));
    } finally {
      this.busy = false;
    }
  }
}

/** What has come and was not taken yet; a failure is told after all of it. */
class Inbox {
  constructor() {
    this.items = [];
    this.failure = null;
    this.wake = () => {};
  }

  put(item) {
    this.items.push(item);
    this.wake();
  }

  fail(problem) {
    this.failure = problem;
    this.wake();
  }

  async take() {
    while (!this.items.length) {
      if (this.failure) throw this.failure;
      await new Promise((resolve) => (this.wake = resolve));
    }
    return this.items.shift();
  }
}
