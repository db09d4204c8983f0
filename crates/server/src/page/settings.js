// The settings, in a dialog.

import { tools } from "./api.js";
import { find } from "./dom.js";
import { keepSettings, settings } from "./store.js";

const FIELDS = ["system", "max", "seed", "temperature", "tools", "key"];

/** Opens them; `why` is shown, and `field` gets the focus. */
export function openSettings(why = "", field = "system") {
  for (const name of FIELDS) find(`s-${name}`).value = settings[name];
  problem(why);
  if (!find("settings").open) find("settings").showModal();
  find(`s-${field}`).focus();
}

function problem(text) {
  find("s-error").textContent = text;
  find("s-error").hidden = !text;
}

/** Throws what is wrong, for people. */
function check(values) {
  const number = (name, words, right) => {
    if (values[name] !== "" && !right(Number(values[name]))) throw new Error(words);
  };
  number("max", "Most tokens: a whole number above 0, or nothing.", (n) => Number.isInteger(n) && n > 0);
  number("seed", "Seed: a whole number above 0, or nothing.", (n) => Number.isSafeInteger(n) && n > 0);
  number("temperature", "Temperature: a number from 0 to 100, or nothing.", (n) => n >= 0 && n <= 100);
  tools(values.tools);
}

/** Makes the dialog work; `kept` is called when something was changed. */
export function setUpSettings(kept) {
  const dialog = find("settings");
  find("s-cancel").addEventListener("click", () => dialog.close());
  dialog.querySelector("form").addEventListener("submit", (event) => {
    const read = (name) => find(`s-${name}`).value;
    const values = Object.fromEntries(FIELDS.map((name) => [name, name === "system" || name === "tools" ? read(name) : read(name).trim()]));
    try {
      check(values);
    } catch (error) {
      event.preventDefault();
      problem(error.message);
      return;
    }
    keepSettings(values);
    kept();
  });
}
