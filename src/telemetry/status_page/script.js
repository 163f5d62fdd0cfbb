"use strict";
// Shows /status.json every two seconds while the page is visible. Every text is set as text, never as HTML.

const INTERVAL = 2000, TIME_LIMIT = 5000, WINDOW = 120000, SMOOTHED = 10000;
const element = (id) => document.getElementById(id);
const number = (value) => value === null ? "–" : Math.round(value).toLocaleString("en");
const clock = (time) => time.toLocaleTimeString();
/** Positions by partition: [time, offset] of the last two minutes. */
const positions = new Map();
const opened = new Date();
let answered = null, busy = false, timer = 0;

/** Changes only what differs, so that a selected text stays selected and a screen reader repeats nothing. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Gives a list of children the right length. */
function resize(parent, length, create) {
  while (parent.children.length > length) parent.lastElementChild.remove();
  while (parent.children.length < length) parent.append(create());
  return [...parent.children];
}

/** One row for each array of cells. A cell is a text, a number, or a function that fills it. The first one is a header. */
function showRows(id, rows) {
  const body = element(id), section = body.closest("section");
  section.querySelector(".scroll").hidden = rows.length === 0;
  section.querySelector(".none").hidden = rows.length > 0;
  resize(body, rows.length, () => document.createElement("tr")).forEach((row, at) => {
    const header = row.children.length === 0;
    const cells = resize(row, rows[at].length, () => document.createElement(header && !row.children.length ? "th" : "td"));
    cells[0].scope = "row";
    cells.forEach((cell, column) => {
      const content = rows[at][column];
      if (typeof content === "function") return content(cell);
      const isNumber = content === null || typeof content === "number";
      cell.classList.toggle("number", isNumber && column > 0);
      setText(cell, isNumber ? number(content) : content);
    });
  });
}

const inside = (tag, text, className) => (cell) => {
  const [node] = resize(cell, 1, () => document.createElement(tag));
  node.className = className ?? "";
  setText(node, text);
};
const command = (text) => inside("code", text);

/** Remembers the position of a partition, and forgets those that are too old. A position that moved back starts again. */
function remember({ partition, next_offset: offset }, now) {
  const known = (positions.get(partition) ?? []).filter(([time]) => now - time <= WINDOW);
  if (offset === null || known.at(-1)?.[1] > offset) known.length = 0;
  if (offset !== null) known.push([now, offset]);
  positions.set(partition, known);
  return known;
}

const rateBetween = ([from, first], [to, last]) => to > from ? (last - first) * 1000 / (to - from) : 0;

/** The rate over the last ten seconds. Null: only one position is known. */
function rateNow(known, now) {
  const recent = known.filter(([time]) => now - time <= SMOOTHED);
  return recent.length < 2 ? null : rateBetween(recent[0], recent.at(-1));
}

/** A line of the rates between all known positions. */
const sparkline = (known, now) => (cell) => {
  const create = (tag) => document.createElementNS("http://www.w3.org/2000/svg", tag);
  const [svg] = resize(cell, 1, () => {
    const made = create("svg");
    made.setAttribute("viewBox", "0 0 120 26");
    made.setAttribute("preserveAspectRatio", "none");
    made.setAttribute("role", "img");
    made.append(create("polyline"));
    made.firstChild.setAttribute("vector-effect", "non-scaling-stroke");
    return made;
  });
  const rates = known.slice(1).map((to, at) => [to[0], rateBetween(known[at], to)]);
  const most = Math.max(1, ...rates.map(([, rate]) => rate));
  const points = rates.map(([time, rate]) => `${(120 - (now - time) / 1000).toFixed(1)},${(25 - rate / most * 23).toFixed(1)}`);
  svg.firstChild.setAttribute("points", points.join(" "));
  const highest = Math.max(0, ...rates.map(([, rate]) => rate));
  svg.setAttribute("aria-label", `Offsets per second in the last two minutes: at most ${number(highest)}`);
};

function show(status) {
  const now = performance.now();
  for (const id of ["group", "topic", "instance"]) setText(element(id), status[id]);
  setText(element("version"), status.version);
  for (const [outcome, count] of Object.entries(status.records)) setText(element(outcome), number(count));
  document.body.dataset.state = status.ready ? "ready" : "not-ready";
  const word = status.ready ? "Ready" : "Not ready";
  setText(element("state"), word);
  document.title = `${word} – booking-history`;
  const reasons = resize(element("reasons"), status.reasons.length, () => document.createElement("li"));
  reasons.forEach((line, at) => setText(line, status.reasons[at]));

  const mine = new Set(status.partitions.map((one) => one.partition));
  for (const partition of positions.keys()) if (!mine.has(partition)) positions.delete(partition);
  let lag = null, rate = null;
  showRows("partitions", status.partitions.map((one) => {
    const known = remember(one, now), own = rateNow(known, now);
    if (one.lag !== null) lag += one.lag;
    if (own !== null) rate += own;
    const state = one.stalled ? `${one.state}, stalled` : one.state;
    const kind = one.stalled ? "state stalled" : `state ${one.state}`;
    return [one.partition, inside("span", state, kind), one.next_offset, one.log_end, one.lag, own, sparkline(known, now)];
  }));
  setText(element("lag"), number(lag));
  setText(element("rate"), number(rate));
  const halted = status.partitions.filter((one) => one.halt !== null);
  showRows("halts", halted.map(({ partition, halt }) => [partition, halt.reason, halt.meaning, command(halt.command)]));

  const { open_work: work } = status;
  const showList = (id, list, cells) => {
    showRows(id, (list?.rows ?? []).map((one) => [...cells(one), command(one.command)]));
    const none = !list ? "Unknown." : list.error !== null ? `They cannot be read: ${list.error}` : "None.";
    setText(element(id).closest("section").querySelector(".none"), none);
  };
  showList("letters", work?.dead_letters, (one) => [one.reason, one.parked, one.waiting]);
  showList("gaps", work?.gaps, (one) => [one.partition, one.reason, one.from, one.to]);
  const reading = work === null ? "Dead letters and gaps have not been read yet."
    : work.read_seconds_ago < 10 ? "Dead letters and gaps are of the whole group and topic."
    : `Dead letters and gaps are of the whole group and topic, as they were ${work.read_seconds_ago} s ago.`;
  setText(element("reading"), reading);
}

function showNoAnswer() {
  document.body.dataset.state = "no-answer";
  document.title = "No answer – booking-history";
  setText(element("state"), `No answer since ${clock(answered ?? opened)}${answered ? ": these figures are old" : ""}`);
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden || busy) return;
  // The page was hidden, or the machine was asleep.
  if (answered && new Date() - answered > INTERVAL + TIME_LIMIT) showNoAnswer();
  busy = true;
  try {
    const answer = await fetch("status.json", { signal: AbortSignal.timeout(TIME_LIMIT) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const status = await answer.json();
    answered = new Date();
    show(status);
  } catch {
    showNoAnswer();
  } finally {
    busy = false;
    timer = setTimeout(poll, INTERVAL);
  }
}

document.addEventListener("visibilitychange", poll);
poll();
