// Asks for the page anew whenever the server says that its run has changed.
"use strict";
const events = new EventSource("/live" + location.pathname);
let asked = 0;

events.addEventListener("change", async () => {
  const number = ++asked;
  const answer = await fetch(location.href, { cache: "no-store" });
  if (!answer.ok || number !== asked) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const open = new Set([...document.querySelectorAll("details[open] > summary")].map(nameOf));
  const focus = pathTo(document.activeElement);
  for (const part of ["main", "live"]) {
    const now = document.getElementById(part), next = page.getElementById(part);
    if (now.innerHTML !== next.innerHTML) now.replaceChildren(...next.childNodes);
  }
  for (const summary of document.querySelectorAll("details > summary")) {
    if (open.has(nameOf(summary))) summary.parentElement.open = true;
  }
  if (focus) document.querySelector(focus)?.focus({ preventScroll: true });
});
events.addEventListener("end", () => events.close());

// What a section is called, without the figures in it that change.
function nameOf(summary) {
  return summary.textContent.replace(/[\d(),.]+/g, "").trim();
}

// Where the focus is in its section, so that it can be there again once the page has been replaced.
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
