// The sentences, each with its time, how sure it is, and the experts that were listened to.

const NOT_SURE = "(not sure enough)";
const NOTHING = "(nothing)";
const SURE = 0.5;

export class Transcript {
  /**
   * @param {HTMLOListElement} list
   * @param {((start: number) => void) | null} goTo what to do when the time of a sentence is chosen; null of a camera.
   */
  constructor(list, goTo) {
    this.list = list;
    this.goTo = goTo;
    this.sentences = [];
  }

  clear() {
    this.sentences = [];
    this.list.replaceChildren();
  }

  add(sentence) {
    this.sentences.push(sentence);
    const item = element("li", { className: "sentence" });
    item.append(text(sentence), this.when(sentence), facts(sentence));
    this.list.append(item);
    item.scrollIntoView({ block: "nearest", behavior: "auto" });
  }

  /** Return the sentence that is said at a time (s), if any, and mark it. */
  mark(time) {
    const index = this.sentences.findLastIndex(({ start, end }) => time >= start && time < end);
    [...this.list.children].forEach((item, i) => item.classList.toggle("now", i === index));
    return this.sentences[index];
  }

  when({ start, end }) {
    const times = `${clock(start)} – ${clock(end)}`;
    if (!this.goTo) return element("p", { className: "when", textContent: times });
    const button = element("button", { type: "button", className: "when", textContent: times });
    button.setAttribute("aria-label", `Show ${clock(start)} to ${clock(end)} in the video`);
    button.addEventListener("click", () => this.goTo?.(start));
    return button;
  }
}

/** What is said, or why nothing is. */
export function words(sentence) {
  return sentence.text.trim() || (sentence.suppressed ? NOT_SURE : NOTHING);
}

/** Whether less than half of it is expected to be right. */
export function unsure({ reliability }) {
  return typeof reliability === "number" && reliability < SURE;
}

/** Minutes and seconds. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function text(sentence) {
  const said = element("p", { className: "text", dir: "auto", textContent: words(sentence) });
  if (sentence.language && sentence.language !== "mul") said.lang = sentence.language;
  if (!sentence.text.trim()) said.classList.add("unsaid");
  if (unsure(sentence)) {
    said.classList.add("unsure");
    said.append(" ", element("span", { className: "doubt", textContent: "not sure", lang: "en" }));
  }
  return said;
}

function facts({ reliability, routing }) {
  const list = element("dl", { className: "facts" });
  const sure = element("dd");
  if (reliability === null || reliability === undefined) {
    sure.textContent = "this model does not say";
  } else {
    sure.append(bar(reliability, "Confidence"), ` ${percent(reliability)}`, element("span", { className: "hint", textContent: " expected right" }));
  }
  const experts = element("dd", { className: "experts" });
  const used = Object.entries(routing).filter(([, weight]) => weight > 0).sort((a, b) => b[1] - a[1]);
  for (const [name, weight] of used) {
    const expert = element("span", { className: "expert" });
    expert.append(bar(weight, `Weight of ${name}`), ` ${name.replace(/^expert_/, "")} ${percent(weight)}`);
    experts.append(expert, " ");
  }
  list.append(element("dt", { textContent: "Confidence" }), sure, element("dt", { textContent: "Experts" }), experts);
  return list;
}

function bar(share, label) {
  const meter = element("span", { className: "bar", role: "meter" });
  const percentage = Math.round(100 * share);
  for (const [name, value] of Object.entries({ label, valuemin: 0, valuemax: 100, valuenow: percentage })) {
    meter.setAttribute(`aria-${name}`, String(value));
  }
  const filled = element("span");
  filled.style.width = `${Math.min(100, 100 * share)}%`;
  meter.append(filled);
  return meter;
}

function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 1) return "under 1%";
  if (value < 100 && value > 99) return "over 99%";
  return `${Math.round(value)}%`;
}

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}
