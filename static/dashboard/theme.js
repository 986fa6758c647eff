/* Light, dark, or as the system: html.dark says which, before anything is drawn. The admin's own choice is
   shared, which its theme keeps under "adminTheme". */
(() => {
  "use strict";

  const KEPT = "adminTheme";
  const NAMES = { auto: "as the system", light: "light", dark: "dark" };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEPT) || '"auto"');
      return kept in NAMES ? kept : "auto";
    } catch {
      return "auto";
    }
  }

  let theme = chosen();

  function apply() {
    const isDark = theme === "dark" || (theme === "auto" && dark.matches);
    document.documentElement.classList.toggle("dark", isDark);
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.textContent = `Theme: ${NAMES[theme]}`;
    }
  }

  function next() {
    const names = Object.keys(NAMES);
    theme = names[(names.indexOf(theme) + 1) % names.length];
    try {
      localStorage.setItem(KEPT, JSON.stringify(theme));
    } catch {
      /* Storage is full or forbidden: the choice holds for this page. */
    }
    apply();
  }

  apply();
  dark.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    /* On a phone the menu is wider than the screen. */
    const current = document.querySelector(".d-nav [aria-current]");
    if (current) current.scrollIntoView({ block: "nearest", inline: "center" });
    for (const button of document.querySelectorAll("[data-theme-switch]")) button.addEventListener("click", next);
    /* A menu closes when one clicks elsewhere, or presses Escape. */
    const close = (but) => {
      for (const menu of document.querySelectorAll("details[data-menu][open]")) if (menu !== but) menu.open = false;
    };
    document.addEventListener("click", (event) => close(event.target.closest("details[data-menu]")));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close(null);
    });
  });
})();
