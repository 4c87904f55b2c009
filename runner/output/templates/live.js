// Requests the page again when the server reports a change of its run, and every 30 seconds. A page
// that cannot be had says so, and is requested every 2 seconds.
"use strict";
const stale = document.getElementById("stale");
let asked = false, again = false, since = new Date(), events, next;
listen();
setInterval(() => document.hidden || renew(), 30_000);

function listen() {
  events = new EventSource("/live" + location.pathname);
  events.addEventListener("change", renew);
  events.addEventListener("error", renew);
  events.addEventListener("end", () => {
    events.close();
    events = null;
  });
}

// One request at a time: a change during one causes another.
async function renew() {
  again = asked;
  if (asked) return;
  asked = true;
  clearTimeout(next);
  const [page, why] = await newest();
  asked = false;
  if (page) {
    since = new Date();
    replace(page);
    if (events?.readyState === EventSource.CLOSED) listen(); // as it is if it was refused once
  } else {
    next = setTimeout(renew, 2_000);
  }
  stale.hidden = !why;
  const words = why && `Not updated since ${since.toISOString().slice(0, 19).replace("T", " ")} UTC: ${why}`;
  if (stale.textContent !== words) stale.textContent = words;
  if (again) renew();
}

// The page as it is now, or why it cannot be had.
async function newest() {
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(60_000) });
    const text = await answer.text();
    const page = new DOMParser().parseFromString(text, "text/html");
    if (answer.ok && page.getElementById("live")) return [page, ""];
    const isText = answer.headers.get("content-type")?.startsWith("text/plain");
    return [null, !answer.ok && isText ? text : `its server answers with ${answer.status}`];
  } catch {
    return [null, "its server does not answer"];
  }
}

function replace(page) {
  const open = new Map([...document.querySelectorAll("details > summary")].map((one) => [nameOf(one), one.parentElement.open]));
  const typed = new Map([...document.querySelectorAll("input, select")].map((one) => [pathTo(one), one.value]));
  const scrolled = [...document.querySelectorAll(".scroll, pre")].map((one) => [pathTo(one), one.scrollLeft, one.scrollTop]);
  const focus = pathTo(document.activeElement);
  const { selectionStart, selectionEnd } = document.activeElement;
  document.title = page.title;
  for (const part of ["main", "live"]) {
    const now = document.getElementById(part), next = page.getElementById(part);
    if (now.innerHTML !== next.innerHTML) now.replaceChildren(...next.childNodes);
  }
  for (const summary of document.querySelectorAll("details > summary")) {
    if (open.has(nameOf(summary))) summary.parentElement.open = open.get(nameOf(summary));
  }
  for (const [path, value] of typed) {
    const field = path && document.querySelector(path);
    if (field) field.value = value;
  }
  for (const [path, left, top] of scrolled) {
    document.querySelector(path)?.scrollTo(left, top);
  }
  const field = focus && document.querySelector(focus);
  field?.focus({ preventScroll: true });
  if (selectionStart != null) field?.setSelectionRange?.(selectionStart, selectionEnd);
}

// The name of a section, without the figures in it, which change.
function nameOf(summary) {
  return summary.textContent.replace(/[\d(),.]+/g, "").trim();
}

// The path to an element within its section, to find it again after the page was replaced.
function pathTo(element) {
  const main = document.getElementById("main");
  if (!element || element === main || !main.contains(element)) return null;
  const home = element.closest("section") ?? main;
  const steps = [];
  for (let at = element; at !== home; at = at.parentElement) {
    steps.unshift(`${at.tagName}:nth-child(${[...at.parentElement.children].indexOf(at) + 1})`);
  }
  const root = home === main ? "#main" : `section[aria-labelledby="${home.getAttribute("aria-labelledby")}"]`;
  return [root, ...steps].join(" > ");
}
