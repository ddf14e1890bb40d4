// What ended lately, as bars: successes from the ground up, deaths on top of them.
import { Chakra, h } from "./react.js";

const HEIGHT = 32;
const STEP = 5;
const GAP = 1;

/** @param processed @param dead how many ended in each step of time, the oldest first */
export function Bars({ processed, dead, label }) {
  const width = processed.length * STEP;
  const most = Math.max(1, ...processed.map((number, step) => number + dead[step]));
  const bar = (step, from, number, fill) =>
    number > 0 &&
    h("rect", {
      x: step * STEP,
      y: HEIGHT - height(from + number, most),
      width: STEP - GAP,
      // A single one among thousands shows too.
      height: Math.max(height(from + number, most) - height(from, most), 1.5),
      rx: 0.5,
      fill,
    });
  return h(
    "svg",
    {
      role: "img",
      "aria-label": `${label}: ${sum(processed)} processed, ${sum(dead)} dead`,
      viewBox: `0 0 ${width} ${HEIGHT}`,
      width,
      height: HEIGHT,
      preserveAspectRatio: "none",
      style: { maxWidth: "100%", display: "block" },
    },
    h("line", {
      x1: 0,
      x2: width,
      y1: HEIGHT - 0.5,
      y2: HEIGHT - 0.5,
      stroke: "var(--chakra-colors-border)",
    }),
    processed.map((number, step) =>
      h(
        "g",
        { key: step },
        bar(step, 0, number, "var(--chakra-colors-success-solid)"),
        bar(step, number, dead[step], "var(--chakra-colors-failed-solid)"),
      ),
    ),
  );
}

const height = (number, most) => (number / most) * (HEIGHT - 2);

export const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
