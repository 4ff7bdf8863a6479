// Keeps the parts of a page marked data-watch="address" up to date. Without this file they are as the page was made.
"use strict";
for (const part of document.querySelectorAll("[data-watch]")) {
  const look = async () => {
    try {
      const answer = await fetch(part.dataset.watch, { credentials: "same-origin" });
      const text = answer.ok && !answer.redirected ? await answer.text() : part.innerHTML;
      if (text !== part.innerHTML) part.innerHTML = text;
    } catch {
      // the server is away for now
    }
    setTimeout(look, 1500);
  };
  setTimeout(look, 1500);
}
