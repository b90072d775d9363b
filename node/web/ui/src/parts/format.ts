// How figures are written. Amounts are decimal strings of micro-FTNS and never become floats.

export function ftns(micro: string | number | bigint, digits = 6): string {
  const value = BigInt(micro);
  const sign = value < 0n ? "−" : "";
  const size = value < 0n ? -value : value;
  const whole = (size / 1_000_000n).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const rest = (size % 1_000_000n).toString().padStart(6, "0").slice(0, digits).replace(/0+$/, "");
  return `${sign}${whole}${rest ? `.${rest}` : ""}`;
}

export function share(part: string | bigint, whole: string | bigint): number {
  const all = BigInt(whole);
  return all === 0n ? 0 : Number((BigInt(part) * 1_000_000n) / all) / 1_000_000;
}

export function count(value: number): string {
  return value.toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  let size = value;
  while (size >= 1000 && at < units.length - 1) {
    size /= 1000;
    at++;
  }
  return `${size >= 100 || at === 0 ? Math.round(size) : size.toFixed(1)}\u202f${units[at]}`;
}

export function span(ms: number): string {
  const value = Math.max(0, ms);
  if (value < 1000) return `${Math.round(value)}\u202fms`;
  if (value < 10_000) return `${(value / 1000).toFixed(1)}\u202fs`;
  if (value < 60_000) return `${Math.round(value / 1000)}\u202fs`;
  const seconds = Math.round(value / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)}\u202fmin${seconds % 60 ? ` ${seconds % 60}\u202fs` : ""}`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)}\u202fh${minutes % 60 ? ` ${minutes % 60}\u202fmin` : ""}`;
  const hours = Math.round(minutes / 60);
  return `${Math.floor(hours / 24)}\u202fd${hours % 24 ? ` ${hours % 24}\u202fh` : ""}`;
}

export function ago(ms: number): string {
  return ms < 1500 ? "now" : `${span(ms)} ago`;
}

export function clock(ms: number, withMs = false): string {
  const at = new Date(ms);
  const two = (value: number) => String(value).padStart(2, "0");
  const text = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return withMs ? `${text}.${String(at.getMilliseconds()).padStart(3, "0")}` : text;
}

/** A long name by its ends: peer ids differ in their last signs, hashes everywhere. */
export function short(id: string): string {
  if (id.length <= 16) return id;
  if (id.startsWith("12D3")) return `…${id.slice(-6)}`;
  if (id.startsWith("0x")) return `${id.slice(0, 6)}…${id.slice(-4)}`;
  return `${id.slice(0, 5)}…${id.slice(-5)}`;
}
