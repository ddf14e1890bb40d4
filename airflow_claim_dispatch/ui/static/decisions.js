// The audit trail: who decided what.
import { Chakra, h, useState } from "./react.js";
import { query, useAnswer } from "./api.js";
import { Answer, Nothing } from "./notices.js";
import { plural, Time, To } from "./words.js";

const LIMIT = 50;

export function Decisions({ zone }) {
  const [before, setBefore] = useState(null);
  const answer = useAnswer(`decisions${query({ limit: LIMIT, before })}`);
  return h(Answer, { answer }, (decisions) =>
    decisions.length === 0
      ? h(Nothing, { title: "No decisions" }, "Nobody has steered the log yet.")
      : h(
          Chakra.Stack,
          { gap: 3 },
          h(Table, { decisions, zone }),
          h(
            Chakra.HStack,
            { justify: "end" },
            before &&
              h(
                Chakra.Button,
                { size: "sm", variant: "ghost", onClick: () => setBefore(null) },
                "Newest",
              ),
            h(
              Chakra.Button,
              {
                size: "sm",
                variant: "outline",
                disabled: decisions.length < LIMIT,
                onClick: () => setBefore(decisions.at(-1).id),
              },
              "Older",
            ),
          ),
        ),
  );
}

const Table = ({ decisions, zone }) =>
  h(
    Chakra.Table.ScrollArea,
    { borderWidth: 1, borderRadius: "md", position: "relative" },
    h(
      Chakra.Table.Root,
      { size: "sm" },
      h(Chakra.Table.Caption, { srOnly: true }, "Decisions"),
      h(
        Chakra.Table.Header,
        null,
        h(
          Chakra.Table.Row,
          { bg: "bg.muted" },
          ["When", "Who", "What", "About"].map((title) =>
            h(Chakra.Table.ColumnHeader, { key: title }, title),
          ),
        ),
      ),
      h(
        Chakra.Table.Body,
        null,
        decisions.map((decision) =>
          h(
            Chakra.Table.Row,
            { key: decision.id },
            h(Chakra.Table.Cell, null, h(Time, { time: decision.decided_at, zone, both: true })),
            h(Chakra.Table.Cell, null, decision.decided_by),
            h(Chakra.Table.Cell, { whiteSpace: "nowrap" }, what(decision)),
            h(
              Chakra.Table.Cell,
              { minW: "12rem", whiteSpace: "normal", overflowWrap: "anywhere" },
              h(About, { decision }),
            ),
          ),
        ),
      ),
    ),
  );

const spoken = (verb) => verb.replace("_", " ");

const what = ({ verb, changed, target }) =>
  target.type ? spoken(verb) : `${spoken(verb)}, ${plural(changed, "action")}`;

const About = ({ decision: { target, action_ids: ids } }) =>
  ids.length === 1
    ? h(To, { at: { action: ids[0] } }, `#${ids[0]}`)
    : h("span", null, target.type ?? filter(target));

/** `types: email.welcome; states: dead` */
const filter = ({ ids, ...target }) =>
  [...Object.entries(target), ...(ids ? [["ids", ids]] : [])]
    .map(([name, value]) => `${name.replace("_", " ")}: ${listed(value)}`)
    .join("; ");

/** A retention is an object; all else are values and lists of them. */
const listed = (value) =>
  Object.prototype.toString.call(value) === "[object Object]"
    ? JSON.stringify(value)
    : [value].flat().join(", ");

/** The decisions about one action. */
export const Trail = ({ decisions, zone }) =>
  decisions.length === 0
    ? h(Chakra.Text, { color: "fg.muted", fontSize: "sm" }, "None.")
    : h(
        Chakra.Stack,
        { as: "ul", gap: 1, fontSize: "sm", listStyleType: "none" },
        decisions.map((decision) =>
          h(
            Chakra.HStack,
            { as: "li", key: decision.id, gap: 1, wrap: "wrap" },
            `${decision.decided_by}: ${spoken(decision.verb)},`,
            h(Time, { time: decision.decided_at, zone, both: true }),
          ),
        ),
      );
