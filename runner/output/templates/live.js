// Asks for the page anew whenever the server says that its run has changed, and as time passes.
"use strict";
let asked = false, again = false;
const events = new EventSource("/live" + location.pathname);
events.addEventListener("change", renew);
events.addEventListener("end", () => events.close());
setInterval(() => document.hidden || renew(), 30_000);

// One page at a time: what changes meanwhile is on the next one.
async function renew() {
  again = asked;
  if (asked) return;
  asked = true;
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (answer.ok) replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } finally {
    asked = false;
  }
  if (again) renew();
}

function replace(page) {
  const open = new Map([...document.querySelectorAll("details > summary")].map((one) => [nameOf(one), one.parentElement.open]));
  const typed = new Map([...document.querySelectorAll("input, select")].map((one) => [pathTo(one), one.value]));
  const focus = pathTo(document.activeElement);
  const { selectionStart, selectionEnd } = document.activeElement;
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
  const field = focus && document.querySelector(focus);
  field?.focus({ preventScroll: true });
  if (selectionStart != null) field?.setSelectionRange?.(selectionStart, selectionEnd);
}

// What a section is called, without the figures in it that change.
function nameOf(summary) {
  return summary.textContent.replace(/[\d(),.]+/g, "").trim();
}

// Where an element is in its section, so that it can be found again once the page has been replaced.
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
