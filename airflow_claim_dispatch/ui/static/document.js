// A stored document, for reading. It is anybody's text: nothing here makes an element of it.
import { Chakra, h } from "./react.js";

const OURS = ["__rules", "__meta"];

/** The payload of a stored document, indented; text that is no JSON stays as it is. */
export function pretty(text) {
  try {
    const payload = JSON.parse(text, exact);
    for (const name of OURS) delete payload?.[name];
    return JSON.stringify(payload, null, 2);
  } catch {
    return text;
  }
}

/** Numbers as they are written: JavaScript's own would round an id of nineteen digits. */
const exact = (_, value, context) =>
  typeof value === "number" && context?.source && JSON.rawJSON
    ? JSON.rawJSON(context.source)
    : value;

export const Document = ({ label, children, ...more }) =>
  h(
    Chakra.Box,
    {
      as: "pre",
      tabIndex: 0,
      role: "region",
      "aria-label": label,
      fontFamily: "mono",
      fontSize: "xs",
      bg: "bg.subtle",
      borderWidth: 1,
      borderRadius: "md",
      p: 3,
      maxH: "24rem",
      overflow: "auto",
      whiteSpace: "pre-wrap",
      overflowWrap: "anywhere",
      ...more,
    },
    children,
  );
