/* <button data-copy="ID"> copies the text of the element with that id. */
(() => {
  "use strict";

  async function copied(source) {
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      /* Without HTTPS there is no clipboard: select the text and copy that. */
      window.getSelection().selectAllChildren(source);
      document.execCommand("copy");
    }
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    await copied(document.getElementById(button.dataset.copy));
    const words = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => {
      button.textContent = words;
    }, 1500);
  });
})();
