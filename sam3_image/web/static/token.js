// Asks for the server's token, in a password field.

import { useToken } from "./api.js";

const dialog = document.querySelector("#token-dialog");
const field = document.querySelector("#token");

let asking = null;

// → whether one was given; however many requests want one, it is asked for once.
export function askForToken() {
  asking ??= new Promise((done) => {
    let given = false;
    field.value = "";
    document.querySelector("#token-form").onsubmit = () => {
      useToken(field.value.trim());
      given = true;
    };
    dialog.onclose = () => {
      asking = null;
      done(given);
    };
    dialog.showModal();
  });
  return asking;
}
