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
    form.addEventListener("submit", () => { typed = false; });
    addEventListener("beforeunload", (event) => { if (typed) event.preventDefault(); });
  }

  for (const button of document.querySelectorAll("[data-take]")) {
    const field = form.elements[button.dataset.take];
    if (!field || field.type === "checkbox") continue;
    const theirs = document.getElementById(`theirs-${button.dataset.take}`);
    button.hidden = false;
    button.addEventListener("click", () => {
      field.value = theirs.textContent;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      field.focus();
    });
  }
}
