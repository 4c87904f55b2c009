// Requests the page again when the server reports a change of its run, and every 30 seconds.
"use strict";
let asked = false, again = false;
const events = new EventSource("/live" + location.pathname);
events.addEventListener("change", renew);
events.addEventListener("end", () => events.close());
setInterval(() => document.hidden || renew(), 30_000);

// One request at a time: a change during one causes another.
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
