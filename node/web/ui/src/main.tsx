// Start: a login code in the address is used at once, else the page asks for a token.
import { render } from "preact";
import { App } from "./app";
import { enterByCode } from "./state/session";
import { takeCode } from "./state/view";

const code = takeCode();
if (code) void enterByCode(code);
const page = document.getElementById("page");
if (page) {
  page.textContent = "";
  render(<App />, page);
}
