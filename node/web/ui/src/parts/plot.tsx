// A line or step chart on uPlot, in the page's own colours; redrawn when the theme changes.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { theme } from "../state/view";
import { useWidth } from "./bits";

export interface Line {
  name: string;
  tone: string; // name of a colour token
  values: Array<number | null>;
  isStep?: boolean;
  isFilled?: boolean;
}
interface Props {
  label: string;
  x: number[];
  lines: Line[];
  height?: number;
  isLog?: boolean;
  form?: (value: number) => string;
  xForm?: (value: number) => string;
}

function colour(name: string, alpha = 1): string {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return alpha === 1 ? found : found.replace(/^rgb\((.*)\)$/, (_all, inner: string) => `rgba(${inner}, ${alpha})`);
}

/** Powers of ten in a range: a line for each of 2, 3, 4… says nothing more. */
function decades(_plot: uPlot, _axis: number, min: number, max: number): number[] {
  const found = [];
  for (let at = 10 ** Math.ceil(Math.log10(min)); at <= max; at *= 10) found.push(at);
  return found;
}

export function Plot({ label, x, lines, height = 120, isLog, form = String, xForm }: Props) {
  const [measure, width] = useWidth();
  const box = useRef<HTMLDivElement | null>(null);
  const plot = useRef<uPlot | null>(null);
  const shade = theme.value;
  const shape = lines.map((line) => `${line.name}${line.tone}`).join();
  useEffect(() => {
    if (!box.current || width === 0) return;
    const axis = {
      stroke: colour("quiet"),
      font: "11px sans-serif",
      grid: { stroke: colour("rule"), width: 1 },
      ticks: { show: false },
    };
    const stepped = uPlot.paths.stepped?.({ align: 1 });
    plot.current = new uPlot(
      {
        width,
        height,
        cursor: { y: false, points: { size: 5 }, drag: { x: false, y: false } },
        legend: { show: false },
        scales: { x: { time: false }, y: isLog ? { distr: 3 as const } : {} },
        padding: [6, 24, 0, 0],
        axes: [
          { ...axis, grid: { show: false }, size: 22, space: 90, values: (_u, ticks) => ticks.map((tick) => (xForm ?? String)(tick)) },
          { ...axis, size: 54, space: 30, ...(isLog ? { splits: decades } : {}), values: (_u, ticks) => ticks.map((tick) => (tick === null ? "" : form(tick))) },
        ],
        series: [
          {},
          ...lines.map((line) => ({
            label: line.name,
            stroke: colour(line.tone),
            width: 1.5,
            points: { show: false },
            ...(line.isFilled ? { fill: colour(line.tone, 0.14) } : {}),
            ...(line.isStep && stepped ? { paths: stepped } : {}),
          })),
        ],
      },
      [x, ...lines.map((line) => line.values)],
      box.current,
    );
    return () => {
      plot.current?.destroy();
      plot.current = null;
    };
  }, [width > 0, shade, shape, height]);
  useEffect(() => {
    if (width > 0) plot.current?.setSize({ width, height });
  }, [width]);
  useEffect(() => {
    plot.current?.setData([x, ...lines.map((line) => line.values)]);
  });
  const newest = lines.map((line) => `${line.name} ${form(line.values[line.values.length - 1] ?? 0)}`).join(", ");
  return (
    <figure class="plot" ref={measure} role="img" aria-label={`${label}: now ${newest}`}>
      <div ref={box} />
    </figure>
  );
}
