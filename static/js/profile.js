// A profile's form: the settings of the chosen provider, readiness as it is typed, and nothing typed lost by a slip.
"use strict";
{
  const form = document.getElementById("promptprofile_form");
  const readiness = document.getElementById("readiness");
  const wait = 400; // ms without a keystroke, until the server is asked

  for (const service of document.querySelectorAll("[data-service]")) {
    const choice = form.elements[service.dataset.service];
    const show = () => {
      const provider = choice.value === "auto" ? service.dataset.automatic : choice.value;
      for (const group of service.querySelectorAll("[data-provider]")) group.hidden = group.dataset.provider !== provider;
    };
    choice.addEventListener("change", show);
    show(); // a browser that goes back puts in what was chosen
  }

  let asked = 0;
  const ask = async () => {
    const mine = ++asked;
    try {
      const answer = await fetch(readiness.dataset.url, { method: "POST", body: new FormData(form), credentials: "same-origin" });
      const text = await answer.text();
      if (mine === asked && answer.ok && !answer.redirected) readiness.innerHTML = text;
    } catch {
      // the server is away for now: what it said last stays
    }
  };
  let timer = 0;
  let typed = document.querySelector(".errornote") !== null;
  const changed = () => {
    typed = true;
    clearTimeout(timer);
    timer = setTimeout(ask, wait);
  };
  if (form.elements._publish) {
    form.addEventListener("input", changed);
    form.addEventListener("change", changed);
    form.addEventListener("submit", (event) => {
      if (event.submitter?.formTarget !== "_blank") typed = false;
    });
    addEventListener("beforeunload", (event) => { if (typed) event.preventDefault(); });
  }

  // The parts of the form, one at a time; which one is in the address. Without this file they follow each other.
  const tabs = document.querySelector(".tabs");
  const parts = [...document.querySelectorAll(".part")];
  const open = (part) => {
    for (const each of parts) each.hidden = each !== part;
    for (const tab of tabs.children) {
      if (tab.hash === `#${part.id}`) tab.setAttribute("aria-current", "true");
      else tab.removeAttribute("aria-current");
    }
  };
  const follow = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const part = target && target.closest(".part");
    if (part) open(part);
    if (!target || !part || target === part) return;
    const folded = target.closest("details");
    if (folded) folded.open = true;
    target.focus();
  };
  if (tabs && parts.length) {
    for (const tab of tabs.children) {
      const wrong = document.querySelectorAll(`${tab.hash} .errorlist`).length;
      if (wrong) tab.append(` (${wrong})`);
      tab.classList.toggle("has-errors", wrong > 0);
    }
    tabs.hidden = false;
    open(parts.find((part) => part.querySelector(".errorlist")) || parts[0]);
    follow();
    addEventListener("hashchange", follow);
  }

  for (const button of document.querySelectorAll("[data-take]")) {
    const field = form.elements[button.dataset.take];
    if (!field || field.type === "checkbox") continue;
    const theirs = document.getElementById(`theirs-${button.dataset.take}`);
    button.hidden = false;
    button.addEventListener("click", () => {
      field.value = theirs.textContent;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      open(field.closest(".part") || parts[0]);
      field.focus();
    });
  }
}
