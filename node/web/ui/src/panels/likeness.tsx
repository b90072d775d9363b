// Outputs of rows: where each row became a vector, how near every two are.
import { useWidth, reachable } from "../parts/bits";
import type { TensorText } from "../rpc/types";

/** float32 (rows, width), little-endian, of 0x-hex. */
function vectors(tensor: TensorText): Float32Array[] | null {
  if (tensor.dtype !== "float32" && tensor.dtype !== "f32") return null;
  const hex = tensor.data.slice(2);
  const raw = new Uint8Array(hex.length / 2);
  for (let at = 0; at < raw.length; at++) raw[at] = parseInt(hex.slice(2 * at, 2 * at + 2), 16);
  const all = new Float32Array(raw.buffer);
  const rows = tensor.shape[0] ?? 0;
  const width = rows > 0 ? all.length / rows : 0;
  if (tensor.shape.length !== 2 || width < 2) return null;
  return Array.from({ length: rows }, (_one, row) => all.subarray(row * width, (row + 1) * width));
}

function cosine(a: Float32Array, b: Float32Array): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let at = 0; at < a.length; at++) {
    const [x, y] = [a[at] ?? 0, b[at] ?? 0];
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  return aa && bb ? dot / Math.sqrt(aa * bb) : 0;
}

export function Likeness({ tensor, texts }: { tensor: TensorText; texts: string[] }) {
  const [measure, width] = useWidth();
  const rows = vectors(tensor);
  const shown = rows?.slice(0, 24);
  if (!shown || shown.length < 2) {
    return <p class="quiet">{tensor.name}: {tensor.dtype} ({tensor.shape.join(", ")})</p>;
  }
  const cell = Math.min(44, Math.max(12, (width - 220) / shown.length));
  const label = Math.min(260, Math.max(90, width - shown.length * cell - 8));
  return (
    <>
      <h3>How near the rows are</h3>
      <div ref={reachable} class="scroll"><div ref={measure}>
        <svg class="likeness" width={label + shown.length * cell + 4} height={shown.length * cell} role="img" aria-label="Cosine of every two rows">
          {shown.map((a, row) => (
            <g>
              <text x={label - 8} y={row * cell + cell / 2 + 4} class="end">{clip(texts[row] ?? "", label / 6.4)}</text>
              {shown.map((b, column) => {
                const near = cosine(a, b);
                return (
                  <g>
                    <rect x={label + column * cell} y={row * cell} width={cell - 1} height={cell - 1} class="cell" fill-opacity={Math.max(0.04, near) ** 1.5}>
                      <title>{`${texts[row]}\n${texts[column]}\n${near.toFixed(3)}`}</title>
                    </rect>
                    {cell >= 30 && <text x={label + column * cell + cell / 2} y={row * cell + cell / 2 + 4} class={`mid ${near > 0.62 ? "on" : ""}`}>{near.toFixed(2)}</text>}
                  </g>
                );
              })}
            </g>
          ))}
        </svg>
      </div></div>
      <p class="quiet small">{tensor.name}: {tensor.dtype} ({tensor.shape.join(", ")}); 1 is the same direction.</p>
    </>
  );
}

const clip = (text: string, size: number): string => (text.length > size ? `${text.slice(0, Math.max(3, size - 1))}…` : text);
