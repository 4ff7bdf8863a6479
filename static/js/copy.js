// Buttons marked data-copy="id" copy that element's text. Over plain http from another machine browsers let no page
// copy: the text is selected instead, for Ctrl-C. Without this file the buttons stay hidden.
"use strict";
for (const button of document.querySelectorAll("[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  const label = button.textContent;
  button.hidden = false;
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: press Ctrl-C";
    }
    setTimeout(() => (button.textContent = label), 2000);
  });
}
