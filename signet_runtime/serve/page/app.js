// The page: what is read, watched and said, put together. States (on the html element): idle, watching, live.

import * as api from "./api.js";
import { openCamera, stream } from "./camera.js";
import { askForToken, hush, say } from "./messages.js";
import { Player } from "./player.js";
import { Ribbon } from "./ribbon.js";
import { PoseTrack, Sketch } from "./skeleton.js";
import { clock, Transcript, unsure, words } from "./transcript.js";

const $ = (id) => document.getElementById(id);
const page = document.documentElement;
const still = matchMedia("(prefers-reduced-motion: reduce)");

const AHEAD = 0.4; // seconds that reading has to be ahead of what is shown
const KEYPOINTS = /\.(npz|pose|pkl|h5|json|npy)$/i;
const NAMES = { body: "body", left_hand: "left hand", right_hand: "right hand", face: "face" };

const player = new Player($("video"));
const transcript = new Transcript($("sentences"), goTo);
let limits = {};
let notices = new Map(); // what is said of a model, by its name
let sketch, ribbon, track, idle;
let job = null; // what is read, see `start`

// ---------------------------------------------------------------- models

async function begin() {
  try {
    const [known, regions] = await Promise.all([api.models(), api.regions()]);
    sketch = new Sketch($("drawing"), regions);
    ribbon = new Ribbon($("ribbon"), regions);
    showKey(regions);
    showModels(known);
    await showIdle();
  } catch (error) {
    problem(error, begin);
  }
}

function showModels(known) {
  limits = known.limits;
  notices = new Map(known.models.map((model) => [model.name, model.about]));
  const options = known.models.map((model) => new Option(model.name, model.name, model.default, model.default));
  $("model").replaceChildren(...options);
  $("model").disabled = options.length < 1;
  for (const id of ["choose", "camera", "again", "again-camera"]) $(id).disabled = options.length < 1;
  if (!options.length) {
    $("model").replaceChildren(new Option("none is here"));
    say("The server has no model. Fetch one with signet-models pull, or start it with --bundle, then try again.", { again: begin });
  }
  showNotice();
}

function showNotice() {
  const notice = notices.get($("model").value);
  $("about").hidden = !notice;
  $("about").textContent = notice ? notice[0].toUpperCase() + notice.slice(1) : "";
}

function showKey(regions) {
  const entries = Object.entries(regions).map(([name, { colour }]) => {
    const entry = document.createElement("li");
    const dot = document.createElement("span");
    dot.style.background = colour;
    entry.append(dot, NAMES[name] ?? name.replaceAll("_", " "));
    return entry;
  });
  $("key").replaceChildren(...entries);
  for (const hand of ["left", "right"]) page.style.setProperty(`--${hand}-hand`, regions[`${hand}_hand`].colour);
}

// ---------------------------------------------------------------- reading

async function read(file) {
  if (!$("model").value || $("model").disabled) return;
  const most = KEYPOINTS.test(file.name) ? limits.keypoints_bytes : limits.bytes;
  if (most && file.size > most) {
    return say(`${file.name} is too large: ${megabytes(file.size)}, and this server takes up to ${megabytes(most)}. Cut it, or choose a shorter one.`);
  }
  const mine = start(file.name, goTo);
  status(`Reading ${file.name}`);
  const size = await player.open(file);
  if (job !== mine) return;
  shape(size ?? [4, 3]);
  show("watching");
  $("play").focus();
  await follow(mine, api.translate(file, mine.model, mine.cancel.signal), {
    ready: (event) => size ?? (event.size && shape(event.size)),
    again: () => read(file),
  });
}

async function sign() {
  const mine = start("camera", null);
  try {
    const camera = await openCamera();
    if (job !== mine) return camera.getTracks().forEach((one) => one.stop());
    shape(await player.openStream(camera));
    if (job !== mine) return;
  } catch (error) {
    reset();
    return problem(error, sign);
  }
  show("live");
  $("stop").focus();
  status("The camera is on");
  await follow(mine, stream($("video"), mine.model, mine.cancel.signal), { again: sign });
  player.close();
  if (job === mine && !transcript.sentences.length) reset();
}

function start(name, whereToGo) {
  job?.cancel.abort();
  player.close();
  hush();
  transcript.clear();
  transcript.goTo = whereToGo;
  ribbon.clear();
  track = new PoseTrack();
  $("notices").replaceChildren();
  status("");
  job = {
    name, // of the file
    model: $("model").value,
    notes: [], // what the server assumed
    cancel: new AbortController(),
    reading: true,
    partial: null, // what there is of a sentence that goes on
    waiting: !still.matches, // whether it plays as soon as enough was read
    position: 0, // seconds that were read
    duration: null, // of those that there are
  };
  showPartial();
  offerDownloads();
  return job;
}

async function follow(mine, events, { ready = () => {}, again }) {
  let failure = null;
  try {
    for await (const event of events) {
      if (job !== mine) return;
      if (event.type === "ready") ready(event);
      else take(event);
    }
  } catch (error) {
    failure = error;
  }
  if (job !== mine) return;
  mine.reading = mine.waiting = false;
  mine.partial = null;
  showPartial();
  page.dataset.reading = "no";
  const count = transcript.sentences.length;
  const found = count === 1 ? "1 sentence" : `${count || "no"} sentences`;
  if (!failure || mine.cancel.signal.aborted) return status(`${failure ? "Stopped" : "Done"}: ${found}`);
  status(count ? `Broken off: ${found}` : "");
  if (failure instanceof api.Problem && !failure.again && !failure.message.includes(mine.name)) {
    failure.message = `${mine.name}: ${failure.message}`;
  }
  problem(failure, again);
  if (!track.times.length) reset();
}

function take(event) {
  if (event.type === "pose") {
    track.add(event);
    ribbon.add(event);
    player.atLeast(event.time);
  } else if (event.type === "partial") {
    job.partial = event;
  } else if (event.type === "sentence") {
    job.partial = null;
    transcript.add(event);
    offerDownloads();
  } else if (event.type === "notice") {
    job.notes.push(event.message);
    const note = document.createElement("li");
    note.textContent = event.message;
    $("notices").append(note);
  } else if (event.type === "progress") {
    Object.assign(job, { position: event.position, duration: event.duration });
    player.atLeast(event.position);
  }
  showPartial();
}

function problem(error, again) {
  if (!(error instanceof api.Problem)) {
    console.error(error);
    say(`This page has a fault: ${error.message}. Load it again.`);
  } else if (error.code === "no_such_model") {
    say(error.message, { label: "Look for models again", again: begin });
  } else if (error.again) {
    say(error.message, { again, after: error.retryAfter });
  } else {
    say(error.message, { label: "Choose a video", again: () => $("file").click() });
  }
}

// ---------------------------------------------------------------- what is shown

function show(state) {
  page.dataset.state = state;
  page.dataset.reading = state === "idle" ? "no" : "yes";
  $("stop").textContent = state === "live" ? "Stop the camera" : "Stop reading";
}

function reset() {
  job?.cancel.abort();
  job = null;
  $("progress").textContent = "";
  player.close();
  show("idle");
  $("frame").style.removeProperty("--aspect");
  $("choose").focus();
}

function shape([width, height]) {
  $("frame").style.setProperty("--aspect", String(width / height));
}

function showPartial() {
  $("partial").textContent = job?.partial ? `${job.partial.text} …` : "";
  $("nothing").hidden = transcript.sentences.length > 0 || Boolean(job?.partial);
}

function offerDownloads() {
  $("downloads").hidden = !transcript.sentences.length;
}

function status(text) {
  $("status").textContent = text;
}

/** Once a picture: the pose, the ribbon and the caption of where we are. */
function tick() {
  requestAnimationFrame(tick);
  if (!sketch) return;
  if (!job) return tickIdle();
  const live = page.dataset.state === "live";
  const until = track.until;
  const time = live ? until : player.time;
  if (!live) keepBehind(time, until);
  if ($("shown").checked) sketch.draw(track.at(time));
  else sketch.clear();
  const duration = live && job.reading ? null : live ? until : player.duration;
  const partial = job.partial?.start ?? null;
  ribbon.draw({ position: time, duration, read: until, sentences: transcript.sentences, partial });
  showCaption(time, live);
  $("time").textContent = live ? clock(time) : `${clock(time)} / ${clock(duration)}`;
  const all = job.duration ? ` of ${clock(job.duration)}` : "";
  $("progress").textContent = job.reading && !live ? `${clock(Math.max(job.position, until))}${all}` : "";
  const playing = !player.paused || job.waiting;
  if ($("play").dataset.playing !== String(playing)) {
    $("play").dataset.playing = String(playing);
    $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  }
  showPosition(time, duration, document.activeElement === $("position") && !playing);
}

/** Let what is shown not get ahead of what has been read, while it is read. */
function keepBehind(time, until) {
  if (!job.reading) {
    if (job.waiting) player.play();
    job.waiting = false;
  } else if (!player.paused && time > until - AHEAD / 4) {
    player.pause();
    job.waiting = true;
  } else if (job.waiting && until > time + AHEAD) {
    player.play();
    job.waiting = false;
  }
}

function showCaption(time, live) {
  const sentence = transcript.mark(live ? Number.NEGATIVE_INFINITY : time);
  const last = transcript.sentences.at(-1);
  const partial = job.partial && (live || time >= job.partial.start) ? job.partial : null;
  const whole = sentence ?? (live ? last : undefined);
  const doubt = !partial && whole && unsure(whole);
  const said = partial ? `${partial.text} …` : whole ? words(whole) + (doubt ? " (not sure)" : "") : "";
  if ($("caption").textContent !== said) $("caption").textContent = said;
  $("caption").classList.toggle("unfinished", Boolean(partial || doubt));
}

/** Show it on the slider, whose mark stays where it is `held`: a video that seeks is behind it. */
function showPosition(time, duration, held) {
  const slider = $("position");
  slider.max = String(duration ?? 1);
  if (!held) slider.value = String(time);
  const said = $("caption").textContent;
  const text = `${clock(time)} of ${clock(duration ?? time)}${said ? `, ${said}` : ""}`;
  if (slider.getAttribute("aria-valuetext") !== text) slider.setAttribute("aria-valuetext", text);
}

// ---------------------------------------------------------------- before anything is read: a word, spelled once

async function showIdle() {
  const { poses, says } = await (await fetch("idle.json")).json();
  const track = new PoseTrack();
  for (const pose of poses) track.add(pose);
  idle = { track, began: still.matches ? Number.NEGATIVE_INFINITY : performance.now() };
  $("idle-says").textContent = says;
}

function tickIdle() {
  if (!idle) return;
  const seconds = (performance.now() - idle.began) / 1000;
  sketch.draw(idle.track.at(Math.min(seconds, idle.track.until)), 1.5);
}

// ---------------------------------------------------------------- what people do

function goTo(seconds) {
  player.time = seconds;
  if (!still.matches) player.play();
}

function choose(files) {
  if (files.length > 1) say(`${files.length} files were dropped, and one is read at a time: ${files[0].name}.`);
  if (files.length) read(files[0]);
}

async function download(format) {
  const sentences = transcript.sentences.map(({ type, ...sentence }) => sentence);
  const { name, model, notes } = job;
  try {
    const file = await api.asFile(format, { input: name, model, notes, sentences });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = `${name.replace(/\.[^.]*$/, "") || "signed"}.${format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    status(`${link.download} was downloaded`);
  } catch (error) {
    problem(error, () => download(format));
  }
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

function listen() {
  for (const id of ["choose", "again"]) $(id).onclick = () => $("file").click();
  for (const id of ["camera", "again-camera"]) $(id).onclick = sign;
  $("file").onchange = () => {
    choose([...$("file").files]);
    $("file").value = ""; // so that the same file can be chosen again
  };
  $("stop").onclick = () => {
    if (page.dataset.state === "live") status("Reading what was signed last");
    job?.cancel.abort();
  };
  $("model").onchange = showNotice;
  $("play").onclick = () => {
    const playing = !player.paused || job.waiting;
    job.waiting = false;
    if (playing) player.pause();
    else if (job.reading && player.time > track.until - AHEAD) job.waiting = true;
    else player.play();
  };
  $("position").oninput = () => (player.time = Number($("position").value));
  $("rate").onchange = () => (player.rate = Number($("rate").value));
  $("downloads").onclick = ({ target }) => {
    const format = target.closest("button")?.dataset.format;
    if (format) download(format);
  };
  let inside = 0; // elements that a dragged file is over
  const dragging = (change) => (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    inside = Math.max(0, inside + change);
    page.classList.toggle("dragging", inside > 0);
  };
  addEventListener("dragenter", dragging(1));
  addEventListener("dragleave", dragging(-1));
  addEventListener("dragover", dragging(0));
  addEventListener("drop", (event) => {
    dragging(-inside)(event);
    choose([...event.dataTransfer.files]);
  });
}

const here = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
$("privacy").textContent = here
  ? "It is read on this computer, and not kept."
  : `It is sent to ${location.hostname}, read there, and not kept.`;
api.askForTokenBy(askForToken);
listen();
show("idle");
begin();
tick();
