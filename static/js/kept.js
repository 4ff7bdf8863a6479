// What was typed into a field marked data-kept is there again when its form leads back to the page, as it may
// have been refused. Without this file it has to be typed again until the page knows of it.
"use strict";
for (const field of document.querySelectorAll("[data-kept]")) {
  const key = `kept ${location.pathname} ${field.id}`;
  const typed = sessionStorage.getItem(key);
  sessionStorage.removeItem(key);
  if (typed !== null) field.value = typed;
  field.form.addEventListener("submit", () => sessionStorage.setItem(key, field.value));
}
