// What the page does in the browser beside htmx. Every form works without it.
"use strict";
(() => {
  const on = (type, what) => document.addEventListener(type, what);

  // What a slider stands at; and moving the threshold means to use it.
  on("input", (event) => {
    const { out, tick } = event.target.dataset;
    if (out) document.getElementById(out).textContent = event.target.value + (tick ? "%" : "");
    if (tick) document.getElementById(tick).checked = true;
  });

  const reveal = () =>
    document.querySelectorAll("[data-copy][hidden]").forEach((each) => (each.hidden = !navigator.clipboard));

  on("click", async (event) => {
    const button = event.target.closest("[data-copy], [data-dismiss]");
    if (!button) return;
    if ("dismiss" in button.dataset) return document.getElementById("problem").replaceChildren();
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });

  // The map: a sign that is pointed at, or reached with the arrow keys, is read out below.
  const read = (link) => {
    const map = link.closest("[data-map]");
    map.querySelectorAll(".on").forEach((each) => each.classList.remove("on"));
    link.classList.add("on");
    document.getElementById("map-caption").textContent = link.querySelector("title").textContent;
  };
  on("pointerover", (event) => {
    const link = event.target.closest?.("[data-map] a");
    if (link) read(link);
  });
  on("keydown", (event) => {
    if (!event.target.matches?.("[data-map]")) return;
    const links = [...event.target.querySelectorAll("a")];
    const at = links.findIndex((each) => each.classList.contains("on"));
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Enter" && at >= 0) location.href = links[at].getAttribute("href");
    if (!step || !links.length) return;
    event.preventDefault();
    read(links[(Math.max(at, step < 0 ? 0 : -1) + step + links.length) % links.length]);
  });

  // After a part was swapped in: what went wrong before is over, the keyboard goes on there, or
  // a screen reader says in a word what came of it, and not all of it.
  on("htmx:afterSwap", (event) => {
    const part = event.detail.target;
    if (part.id !== "problem") document.getElementById("problem").replaceChildren();
    const focus = part.querySelector?.("[data-focus]");
    const say = part.querySelector?.("[data-say]");
    if (focus) focus.focus();
    else if (say) document.getElementById("said").textContent = say.textContent;
    reveal();
  });
  on("htmx:sendError", () => {
    document.getElementById("problem").textContent =
      "The server does not answer. What you wrote is still here; try again in a moment.";
  });
  on("DOMContentLoaded", reveal);
})();
