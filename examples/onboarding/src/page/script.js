// The form and what can happen to it: one key for each invitation, however often it is sent.

import { begun, badge, classOf, seconds, element } from "./live.js";

const [form, email, name, key, answer, again, other] =
  ["invite", "email", "name", "key", "answer", "again", "other"].map((id) => document.getElementById(id));

// What outlives a reload: the fields, and the last invitation as it was sent.
const saved = JSON.parse(sessionStorage.getItem("invitation") ?? "{}");

/** The last invitation: `{ key, body, isAnswered }`. */
let last = saved.last;

function save() {
  const fields = { email: email.value, name: name.value, key: key.value };
  sessionStorage.setItem("invitation", JSON.stringify({ ...fields, last }));
  again.disabled = other.disabled = !last;
}

/** `crypto.randomUUID()`; browsers that have it for https and localhost alone get the same by hand. */
function freshKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40; // version 4
  bytes[8] = (bytes[8] & 0x3f) | 0x80; // of RFC 9562
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** What the form says, as a request. */
function invitation() {
  last = {
    key: key.value,
    body: JSON.stringify({ email: email.value, entityName: name.value }),
    isAnswered: false,
  };
  save();
  return last;
}

/** The same with a key of its own. */
function freshInvitation() {
  key.value = freshKey();
  return invitation();
}

/** Sends a request once, and gives its answer as it is shown. */
async function send(request, signal) {
  const since = performance.now();
  const result = (word, text, id = "") => ({ word, text, id, took: performance.now() - since });
  try {
    const response = await fetch("/page/invite", {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": request.key },
      body: request.body,
      signal,
    });
    const said = await response.json();
    if (request.key === last.key && request.body === last.body) {
      last.isAnswered = true;
      save();
    }
    const status = `${response.status} ${response.statusText}`;
    if (!response.ok) return result(`${response.status}`, `${status}: ${said.detail}`);
    const word = response.headers.has("idempotent-replayed") ? "replayed" : "executed";
    return result(word, `${status}, `, said.id);
  } catch (error) {
    if (signal?.aborted) return result("cut off", "The caller went away while the handler was running.");
    const advice = "The handler may have run: send again with the same key to find out.";
    return result("no answer", `${error.message}. ${advice}`);
  }
}

/** The requests whose answers are shown: those of one click, and of further ones before the first is answered. */
let shown = null;

function group(title, key) {
  if (shown?.title !== title || shown.key !== key || shown.open === 0) {
    shown = { title, key, sent: 0, open: 0, answers: new Map() };
  }
  return shown;
}

/** Shows what becomes of requests that are on their way. */
function show(group, ...results) {
  group.sent += results.length;
  group.open += results.length;
  render(group);
  for (const result of results) {
    result.then(({ word, text, id, took }) => {
      group.open -= 1;
      const kind = [word, text, id].join();
      const equal = group.answers.get(kind) ?? { word, text, id, times: 0, took: 0 };
      group.answers.set(kind, { ...equal, times: equal.times + 1, took: Math.max(equal.took, took) });
      // A screen reader reads out what is rendered: not a hundred times.
      if (group.sent < 10 || group.open === 0) render(group);
    });
  }
}

function render(group) {
  if (group !== shown) return;
  const { title, sent, open, answers } = group;
  const requests = sent === 1 ? "1 request" : `${sent} requests`;
  const rows = Array.from(answers.values(), ({ word, text, id, times, took }) =>
    element("li", {},
      badge(word, classOf(word)),
      element("span", { className: "times" }, times > 1 ? `× ${times}` : ""),
      element("span", {}, text, element("span", { className: "key" }, id)),
      element("span", { className: "hint" }, `${times > 1 ? "within" : "after"} ${seconds(took)}`)));
  answer.replaceChildren(
    element("p", {}, element("strong", {}, title), `: ${requests}${open > 0 ? `, ${open} not answered yet` : ""}`),
    element("ul", { className: "answers" }, ...rows),
  );
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const request = invitation();
  show(group("Send", request.key), send(request));
});

again.addEventListener("click", () => show(group("Send again, same key", last.key), send(last)));

other.addEventListener("click", () => {
  const body = JSON.parse(last.body);
  const request = { ...last, body: JSON.stringify({ ...body, entityName: `${body.entityName} and Sons` }) };
  show(group("Same key, other body", request.key), send(request));
});

document.getElementById("cut").addEventListener("click", async () => {
  if (!form.reportValidity()) return;
  const request = freshInvitation();
  const both = group("Cut the connection and retry", request.key);
  const connection = new AbortController();
  const running = begun();
  const first = send(request, connection.signal);
  show(both, first);
  // The service says that the handler runs; then the caller goes away.
  await Promise.race([running, first]);
  connection.abort();
  show(both, send(request));
});

document.getElementById("hundred").addEventListener("click", () => {
  if (!form.reportValidity()) return;
  const request = freshInvitation();
  const results = Array.from({ length: 100 }, () => send(request));
  show(group("Send a hundred at once", request.key), ...results);
});

document.getElementById("new-key").addEventListener("click", () => {
  key.value = freshKey();
  save();
});

// Whoever changes what is sent means another invitation.
form.addEventListener("input", ({ target }) => {
  if (target !== key && last?.key === key.value) key.value = freshKey();
  save();
});

email.value = saved.email ?? email.value;
name.value = saved.name ?? name.value;
key.value = saved.key ?? freshKey();
save();
if (last && !last.isAnswered) {
  answer.replaceChildren(
    element("p", {}, "The page was left before the answer came. “Send again, same key” tells what became of it."),
  );
}
