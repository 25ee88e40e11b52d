// The live lists: how each request was answered, and what was created.

/** How many rows a list shows. */
const SHOWN = 100;

/** For how long an answer is counted in the row of an equal one, in milliseconds. */
const TOGETHER = 2000;

/** Decisions after which the handler ran, with what there is to say about it. */
const EXECUTED = {
  stored: "",
  without_key: "no key, so nothing is protected",
  unprotected: "the store is out of reach, so nothing is protected",
  not_storable: "its response cannot be stored",
  unknown: "whether it took effect is not known",
  released: "its key is free again",
  unstored: "its response is not stored yet",
};

/** The status of each refusal. */
const REFUSED = {
  invalid_key: 400,
  conflicting_keys: 400,
  missing_key: 400,
  request_in_progress: 409,
  response_not_stored: 409,
  outcome_unknown: 409,
  key_reused: 422,
  transaction_failed: 500,
  misconfigured: 500,
  too_many_runs: 503,
  store_unavailable: 503,
};

const [connection, events, noEvents, entities, noEntities, count] =
  ["connection", "events", "no-events", "entities", "no-entities", "count"].map((id) => document.getElementById(id));

/** An element with properties and children; texts stay texts. */
export function element(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export const badge = (word, kind) => element("span", { className: `badge ${kind}` }, word);

export const seconds = (milliseconds) =>
  milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;

/** The class that colours a word. */
export function classOf(word) {
  if (["executed", "replayed", "waited"].includes(word)) return word;
  return { 409: "conflict", 422: "reused" }[word] ?? (/^[45]/.test(word) ? "refused" : "other");
}

const source = new EventSource("/page/events");

/** Resolves when the next handler begins that a page has sent for. */
export const begun = () => new Promise((resolve) => source.addEventListener("begun", resolve, { once: true }));

function say(text, isLive) {
  connection.textContent = text;
  connection.classList.toggle("live", isLive);
}

source.addEventListener("error", () => {
  // Closed for good: another answer than a stream.
  say(source.readyState === EventSource.CLOSED ? "Disconnected, reload the page" : "Connecting again", false);
});

for (const [name, reason] of [["connected", "the connection was lost"], ["missed", "the connection is too slow"]]) {
  source.addEventListener(name, ({ data }) => {
    const { missed } = JSON.parse(data);
    say("Live", true);
    if (missed === null) prepend(gap("The service has started anew."));
    if (missed > 0) prepend(gap(`${missed} ${missed === 1 ? "event was" : "events were"} missed: ${reason}.`));
    showEntities();
  });
}

source.addEventListener("created", showEntities);

source.addEventListener("decided", ({ data }) => {
  const decided = JSON.parse(data);
  const word = wordFor(decided);
  const tally = document.getElementById(`tally-${word}`);
  if (tally) tally.textContent = Number(tally.textContent) + 1;
  showDecided(word, decided);
});

/** How a request was answered, in one word. */
function wordFor({ decision, waited }) {
  if (decision in EXECUTED) return "executed";
  if (decision === "replayed") return waited === null ? "replayed" : "waited";
  return `${REFUSED[decision] ?? decision.replaceAll("_", " ")}`;
}

/** The newest row of each kind: of equal answers within a short time there is one row. */
const rows = new Map();

function showDecided(word, decided) {
  const kind = [word, decided.decision, decided.operation, decided.key].join();
  const now = Date.now();
  const row = rows.get(kind);
  if (row?.element.isConnected && now - row.at < TOGETHER) {
    Object.assign(row, { at: now, times: row.times + 1 });
    row.element.querySelector(".times").textContent = `× ${row.times}`;
    row.element.querySelector(".details").replaceChildren(...details(decided));
    return;
  }
  const time = new Date(now);
  const line = element("p", { className: "first-line" },
    badge(word, classOf(word)),
    element("span", { className: "times" }),
    element("code", {}, decided.operation),
    element("time", { dateTime: time.toISOString() }, time.toLocaleTimeString([], { hour12: false })));
  const li = element("li", {}, line, element("p", { className: "details" }, ...details(decided)));
  rows.set(kind, { element: li, at: now, times: 1 });
  prepend(li);
  if (rows.size > 2 * SHOWN) {
    for (const [kind, { element }] of rows) if (!element.isConnected) rows.delete(kind);
  }
}

function details({ decision, key, status, ran, waited }) {
  const said = [
    status && `${status}`,
    ran !== null && `ran ${seconds(ran)}`,
    waited !== null && `waited ${seconds(waited)}`,
    EXECUTED[decision] ?? (decision in REFUSED && decision.replaceAll("_", " ")),
  ];
  const text = said.filter(Boolean).join(", ");
  if (key === null) return [text];
  return ["key ", element("span", { className: "key", title: key }, key.slice(0, 8)), text && `, ${text}`];
}

function gap(text) {
  return element("li", {}, element("p", { className: "first-line" }, badge("gap", "other"), text));
}

function prepend(row) {
  row.classList.add("new");
  events.prepend(row);
  while (events.childElementCount > SHOWN) events.lastElementChild.remove();
  noEvents.hidden = true;
}

let isAsking = false;
let isStale = false;
let known = null;

/** Shows all entities: asked one at a time, and once more if there are new ones meanwhile. */
async function showEntities() {
  isStale = true;
  if (isAsking) return;
  isAsking = true;
  try {
    while (isStale) {
      isStale = false;
      const response = await fetch("/downstream-entities");
      render(await response.json());
    }
  } catch {
    // Asked again when the events are back.
  } finally {
    isAsking = false;
  }
}

function render(all) {
  const shown = all.slice(-SHOWN).reverse();
  const rows = shown.map((entity) => [entity.id, known?.get(entity.id) ?? entityRow(entity, known !== null)]);
  known = new Map(rows);
  entities.replaceChildren(...known.values());
  noEntities.hidden = all.length > 0;
  const more = all.length > SHOWN ? `, the last ${SHOWN} below` : "";
  count.textContent = `${all.length} ${all.length === 1 ? "entity" : "entities"}${more}`;
}

function entityRow({ id, email, entityName, status }, isNew) {
  const line = element("p", { className: "first-line" },
    element("strong", {}, entityName), badge(status, "other"));
  const details = element("p", { className: "details" }, email, ", ", element("span", { className: "key" }, id));
  const row = element("li", { className: isNew ? "new" : "" }, line, details);
  row.addEventListener("animationend", () => row.classList.remove("new"));
  return row;
}
