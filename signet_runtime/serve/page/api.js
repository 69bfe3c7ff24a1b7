// The server's HTTP API: one function a question. Whatever goes wrong is a Problem with a sentence for people.

export class Problem extends Error {
  /**
   * @param {string} code what it is, for programs; the server's, or one of ours: unreachable, cut-off, unauthorised.
   * @param {string} message one line: what, where, what to do.
   * @param {{retryAfter?: number | null, again?: boolean}} later after how many seconds it may be tried again, where the
   *   server says so; whether the same may go better another time.
   */
  constructor(code, message, { retryAfter = null, again = true } = {}) {
    super(message);
    this.code = code;
    this.retryAfter = retryAfter;
    this.again = again;
  }
}

const UNREACHABLE = "The server does not answer. See whether signet-serve still runs, then try again.";
const CUT_OFF = "The server went away while it was reading. What it had read until then is below.";
const KEPT = "signet-token"; // until the tab is closed, so that a page that is loaded again need not ask again

/** @type {(wrong: boolean) => Promise<string | null>} who asks for a token; null where none is given. */
let ask = async () => null;

export function askForTokenBy(/** @type {typeof ask} */ asking) {
  ask = asking;
}

export function token() {
  return sessionStorage.getItem(KEPT);
}

let asking = null; // a person is asked once, however many requests were refused

/** Ask a person for the server's token and keep it, unless there is another by now than the one that was `refused`. */
export async function renewToken(refused) {
  if (token() !== refused) return;
  asking ??= ask(refused !== null).finally(() => (asking = null));
  const given = await asking;
  if (given === null) throw new Problem("unauthorised", "The server wants a token, and none was given.");
  sessionStorage.setItem(KEPT, given);
}

/** Return the models of this server, each as {name, about, languages, default}, and its limits, if it tells them. */
export async function models() {
  const answer = await (await request("v1/models")).json();
  return { models: answer.models, limits: answer.limits ?? {} };
}

/** Return joints, edges and colour of every region, by its name. */
export async function regions() {
  return (await (await request("v1/skeleton")).json()).regions;
}

/** Return what was said, {input, model, notes, sentences}, as a file in one of the server's formats. */
export async function asFile(format, said) {
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify(said);
  return (await request(`v1/format?format=${format}`, { method: "POST", headers, body })).blob();
}

/** Have a file translated; yields the server's events as they come, the last of which is `end`. */
export async function* translate(file, model, signal) {
  const body = new FormData();
  body.append("file", file, file.name);
  const headers = { Accept: "application/x-ndjson" };
  const path = `v1/translate?model=${encodeURIComponent(model)}`;
  const response = await request(path, { method: "POST", headers, body, signal });
  for await (const line of lines(response.body)) {
    const event = JSON.parse(line);
    if (event.type === "error") throw problemOf(event);
    yield event;
    if (event.type === "end") return;
  }
  throw new Problem("cut-off", CUT_OFF);
}

/** Make the server's own words for an error, of an answer or an event, a Problem; `status` is an answer's. */
export function problemOf({ code, message, retry_after: retryAfter = null }, status = null) {
  const again = retryAfter !== null || (status ?? 0) >= 500 || status === 408;
  return new Problem(code, message[0].toUpperCase() + message.slice(1), { retryAfter, again });
}

async function request(path, options = {}) {
  for (;;) {
    const headers = { ...options.headers };
    const sent = token();
    if (sent !== null) headers.Authorization = `Bearer ${sent}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new Problem("unreachable", UNREACHABLE);
    }
    if (response.ok) return response;
    if (response.status !== 401) throw await refusal(response);
    await renewToken(sent);
  }
}

async function refusal(response) {
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const retryAfter = Number.isNaN(seconds) ? null : seconds;
  const { status } = response;
  try {
    return problemOf({ ...(await response.json()).error, retry_after: retryAfter }, status);
  } catch {
    // A proxy in between has pages of its own.
    return new Problem(`http-${status}`, `The server answered ${status}, and nothing that says why.`, { retryAfter });
  }
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      yield* parts.filter((line) => line.trim());
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("cut-off", CUT_OFF);
  } finally {
    reader.cancel().catch(() => {});
  }
}
