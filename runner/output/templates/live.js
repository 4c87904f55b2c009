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

// Where the focus is, so that it can be there again once the page has been replaced.
function pathTo(element) {
  if (!element || !document.getElementById("main").contains(element)) return null;
  const steps = [];
  for (let at = element; at.id !== "main"; at = at.parentElement) {
    steps.unshift(`${at.tagName}:nth-child(${[...at.parentElement.children].indexOf(at) + 1})`);
  }
  return ["#main", ...steps].join(" > ");
}
