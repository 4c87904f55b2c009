// Shows the events on the page that match the chosen filters.
"use strict";
const form = document.getElementById("filter");
if (form) {
  const rows = [...document.querySelectorAll("tr[data-outcome]")];
  const choose = () => {
    const { q, outcome, stage } = form.elements;
    const text = q.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const { outcome: its, stage: of } = row.dataset;
      const lost = !["completed", "running", "unfollowed", "sending", "unsent"].includes(its);
      row.hidden = !(
        (!outcome.value || its === outcome.value || (outcome.value === "lost" && lost)) &&
        (!stage.value || of === stage.value) &&
        ["item", "message"].some((kind) => row.querySelector(`.${kind}`).textContent.toLowerCase().includes(text))
      );
      shown += !row.hidden;
    }
    document.getElementById("shown").textContent = `${shown} of ${rows.length} shown`;
  };
  form.hidden = false;
  form.addEventListener("input", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  choose();
}
