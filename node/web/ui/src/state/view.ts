// What the visitor chose: the panel and what is picked in it (the address), theme.
import { computed, signal } from "@preact/signals";

export const theme = signal<"auto" | "light" | "dark">("auto");
const address = signal(location.hash);
window.addEventListener("hashchange", () => {
  address.value = location.hash;
});

export interface Place {
  panel: string;
  pick: string;
}
export const place = computed<Place>(() => {
  const [panel = "", ...rest] = address.value.replace(/^#\/?/, "").split("/");
  return { panel: panel || "overview", pick: decodeURIComponent(rest.join("/")) };
});

export function go(panel: string, pick = ""): void {
  location.hash = `#/${panel}${pick ? `/${encodeURIComponent(pick)}` : ""}`;
}

/** Take `#login=CODE` out of the address, so that it stays in no history. */
export function takeCode(): string {
  const found = /^#login=([A-Za-z0-9._~-]{1,256})$/.exec(location.hash);
  if (!found) return "";
  history.replaceState(null, "", location.pathname);
  address.value = "";
  return found[1] ?? "";
}

export function turnTheme(): void {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const isDark = theme.value === "auto" ? dark : theme.value === "dark";
  theme.value = isDark ? "light" : "dark";
  document.documentElement.dataset["theme"] = theme.value;
}
