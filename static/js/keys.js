// The keys of the pages on calls: / searches, j and k move through what is marked data-row, Esc leaves, ? lists them.
// Enter on a row is the browser's own: rows are links. The pages work without this file.
"use strict";
{
  const OFF = "keys-off"; // in localStorage: whoever speaks to the computer doesn't want single letters to act
  const dialog = document.getElementById("keys");
  const search = document.querySelector("input[type=search]");
  const opener = document.querySelector(".keys-open");
  const leave = document.querySelector("[data-leave]");
  const list = document.querySelector("[data-search-page]");
  const rows = [...document.querySelectorAll("[data-row]")];
  let last = -1; // the row that had the focus

  const isTyping = (element) => Boolean(element.closest("input:not([type=checkbox]), select, textarea"));

  function focusSearch() {
    if (search) {
      search.focus();
      search.select();
    } else if (list) {
      location.href = `${list.href}#search`;
    }
  }

  function move(step) {
    if (!rows.length) return;
    const here = rows.indexOf(document.activeElement);
    const from = here === -1 ? last : here;
    last = Math.min(Math.max(from + step, 0), rows.length - 1);
    rows[last].focus();
  }

  function escape() {
    const opened = document.querySelector("details.user[open], details.more[open]");
    if (opened) {
      opened.open = false;
      opened.querySelector("summary").focus();
    } else if (document.activeElement !== document.body) {
      document.activeElement.blur();
    } else if (leave) {
      leave.click();
    }
  }

  const keys = { "/": focusSearch, j: () => move(1), k: () => move(-1), "?": () => dialog.showModal() };

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || dialog.open) return;
    if (event.key === "Escape") {
      escape();
    } else if (!isTyping(event.target) && keys[event.key] && !localStorage.getItem(OFF)) {
      event.preventDefault();
      keys[event.key]();
    }
  });

  document.addEventListener("click", (event) => {
    for (const opened of document.querySelectorAll("details.user[open], details.more[open]")) {
      if (!opened.contains(event.target)) opened.open = false;
    }
  });

  const box = document.getElementById("keys-on");
  box.checked = !localStorage.getItem(OFF);
  box.addEventListener("change", () => (box.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "1")));

  opener.hidden = false;
  opener.addEventListener("click", () => dialog.showModal());

  if (location.hash === "#search") focusSearch();
}
