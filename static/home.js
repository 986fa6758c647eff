/* The admin's first page: fetches its changing part every 15 seconds, and shows the fields of a time of one's own. */
(() => {
  "use strict";

  const EVERY_MS = 15000;
  const STORED = "gatewayAutoRefresh";
  let opened = [];
  let scrolled = new Map();

  const parts = () => document.getElementById("overview");

  /* Somebody who reads a chart's numbers or has marked text does not want it taken away. */
  function isBusy() {
    const selection = document.getSelection();
    return document.hidden || (selection && !selection.isCollapsed && parts().contains(selection.anchorNode));
  }

  function refreshNow() {
    const box = document.getElementById("auto-refresh");
    if (parts() && (!box || box.checked) && !isBusy()) htmx.trigger(parts(), "refresh");
  }

  function remember() {
    opened = [...parts().querySelectorAll("details[open]")].map((each) => each.id);
    scrolled = new Map([...parts().querySelectorAll("[data-keep]")].map((each) => [each.dataset.keep, each.scrollLeft]));
    const focused = document.activeElement;
    remember.focused = parts().contains(focused) ? focused.getAttribute("href") || focused.dataset.keep || focused.parentElement.id : null;
  }

  function restore() {
    for (const id of opened) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    for (const each of parts().querySelectorAll("[data-keep]")) each.scrollLeft = scrolled.get(each.dataset.keep) || 0;
    const name = remember.focused;
    if (!name) return;
    const again = [...parts().querySelectorAll("a, summary, [data-keep]")].find(
      (each) => each.getAttribute("href") === name || each.dataset.keep === name || each.parentElement.id === name,
    );
    if (again) again.focus({ preventScroll: true });
  }

  function showFields() {
    const custom = document.getElementById("range-name").value === "custom";
    for (const label of document.querySelectorAll("#range [data-custom]")) {
      label.hidden = !custom;
      for (const field of label.querySelectorAll("input, select")) field.disabled = !custom;
    }
    return custom;
  }

  function start() {
    const box = document.getElementById("auto-refresh");
    const choice = document.getElementById("range-name");
    if (box) {
      box.checked = localStorage.getItem(STORED) !== "off";
      box.addEventListener("change", () => {
        localStorage.setItem(STORED, box.checked ? "on" : "off");
        refreshNow();
      });
    }
    if (choice) {
      choice.addEventListener("change", () => {
        if (!showFields()) choice.form.requestSubmit();
      });
      showFields();
    }
    setInterval(refreshNow, EVERY_MS);
    document.addEventListener("visibilitychange", refreshNow);
    document.addEventListener("htmx:beforeSwap", (event) => event.target === parts() && remember());
    document.addEventListener("htmx:afterSwap", (event) => event.target === parts() && restore());
  }

  document.addEventListener("DOMContentLoaded", start);
})();
