// The one place where the page says that something is wrong, and what can be done; and the dialog that asks for a token.

const $ = (id) => document.getElementById(id);

let timer = 0;

/**
 * Say what is wrong, in place of what was said before.
 *
 * @param {string} text one line: what, where, what to do.
 * @param {{label?: string, again?: () => void, after?: number | null}} action a button, and the seconds after which it is
 *   pressed by itself.
 */
export function say(text, { label = "Try again", again, after = null } = {}) {
  hush();
  const button = $("message-action");
  button.hidden = !again;
  button.textContent = label;
  button.onclick = () => {
    hush();
    again();
  };
  $("message-text").textContent = text;
  $("message").hidden = false;
  $("message").scrollIntoView({ block: "nearest" });
  if (!again || after === null) return;
  let left = Math.max(1, Math.ceil(after));
  const count = () => {
    // Seen, and not read out second by second.
    $("message-wait").textContent = `Again in ${left} s.`;
    if (left-- <= 0) button.onclick();
  };
  count();
  timer = setInterval(count, 1000);
}

export function hush() {
  clearInterval(timer);
  $("message").hidden = true;
  $("message-text").textContent = $("message-wait").textContent = "";
}

$("message-close").onclick = hush;

/** Ask for the server's token; null where none is given. */
export function askForToken(wrong) {
  const dialog = $("token");
  const value = $("token-value");
  value.value = "";
  $("token-text").textContent = wrong
    ? "That was not it. Whoever runs the server has it."
    : "Whoever runs it has one. It is kept until you close this tab.";
  dialog.returnValue = "";
  dialog.showModal();
  $("token-cancel").onclick = () => dialog.close("");
  return new Promise((done) => {
    dialog.onclose = () => done(dialog.returnValue === "send" && value.value.trim() ? value.value.trim() : null);
  });
}
