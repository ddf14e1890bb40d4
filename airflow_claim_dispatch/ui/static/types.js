// The table of all types.
import { Chakra, h } from "./react.js";
import { Bars } from "./chart.js";
import { span, written } from "./times.js";
import { count, To } from "./words.js";

/** States that the overview counts. */
export const COUNTED = ["scheduled", "due", "claimed", "retrying", "dead", "processed"];

/** An estimate says so. */
export const Amount = ({ number, about }) =>
  h(
    "span",
    { title: about ? "estimated from a sample of the table" : undefined },
    `${about ? "≈ " : ""}${count(number)}`,
  );

/** Columns that a narrow window does without. */
const WIDE = {
  scheduled: { hideBelow: "md" },
  claimed: { hideBelow: "md" },
  retrying: { hideBelow: "lg" },
  processed: { hideBelow: "md" },
  lag: { hideBelow: "lg" },
  chart: { hideBelow: "sm" },
};

export const Types = ({ log, user, zone, ask }) =>
  h(
    Chakra.Table.ScrollArea,
    { borderWidth: 1, borderRadius: "md", position: "relative" },
    h(
      Chakra.Table.Root,
      { size: "sm" },
      h(Chakra.Table.Caption, { srOnly: true }, "Types of actions"),
      h(
        Chakra.Table.Header,
        null,
        h(
          Chakra.Table.Row,
          { bg: "bg.muted" },
          h(Chakra.Table.ColumnHeader, { ps: 4 }, "Type"),
          COUNTED.map((state) =>
            h(Chakra.Table.ColumnHeader, { key: state, textAlign: "end", ...WIDE[state] }, state),
          ),
          h(
            Chakra.Table.ColumnHeader,
            { textAlign: "end", title: "From due to done: half, and 99 of 100", ...WIDE.lag },
            "lag p50 / p99",
          ),
          h(
            Chakra.Table.ColumnHeader,
            { ...WIDE.chart, title: `since ${written(log.since, zone)}` },
            `last ${span((new Date(log.seen_at) - new Date(log.since)) / 1000)}`,
          ),
          user.may_decide &&
            h(Chakra.Table.ColumnHeader, null, h(Chakra.VisuallyHidden, null, "Decide")),
        ),
      ),
      h(
        Chakra.Table.Body,
        null,
        log.types.map((view) => h(Type, { key: view.type, view, log, user, ask })),
      ),
    ),
  );

/** A line of colour at a row that wants somebody. */
const STANDS_OUT = { boxShadow: "inset 4px 0 0 var(--chakra-colors-warning-solid)" };

const standsOut = (view, log) => view.paused_at !== null || log.unserved.includes(view.type);

const Type = ({ view, log, user, ask }) =>
  h(
    Chakra.Table.Row,
    { "data-type": view.type },
    h(
      Chakra.Table.Cell,
      { ps: 4, minW: "8rem", overflowWrap: "anywhere", ...(standsOut(view, log) && STANDS_OUT) },
      h(Name, { view, log }),
    ),
    COUNTED.map((state) =>
      h(
        Chakra.Table.Cell,
        { key: state, textAlign: "end", fontVariantNumeric: "tabular-nums", ...WIDE[state] },
        h(Count, { view, state }),
        state === "due" &&
          view.oldest_due !== null &&
          h(
            Chakra.Text,
            {
              color: "fg.muted",
              fontSize: "xs",
              whiteSpace: "nowrap",
              title: "the oldest has been due for",
            },
            span(view.oldest_due),
          ),
      ),
    ),
    h(
      Chakra.Table.Cell,
      { textAlign: "end", whiteSpace: "nowrap", ...WIDE.lag },
      view.lag_p50 === null ? "–" : `${span(view.lag_p50)} / ${span(view.lag_p99)}`,
    ),
    h(
      Chakra.Table.Cell,
      WIDE.chart,
      h(Bars, {
        processed: view.processed_over_time,
        dead: view.dead_over_time,
        label: `${view.type} lately`,
      }),
    ),
    user.may_decide &&
      h(
        Chakra.Table.Cell,
        { textAlign: "end" },
        h(
          Chakra.Button,
          {
            size: "xs",
            variant: "outline",
            "aria-label": `${view.paused_at ? "Resume" : "Pause"} ${view.type}`,
            onClick: () => ask(view),
          },
          view.paused_at ? "Resume" : "Pause",
        ),
      ),
  );

const Name = ({ view, log }) =>
  h(
    Chakra.Stack,
    { gap: 0 },
    h(
      Chakra.HStack,
      { gap: 2, wrap: "wrap" },
      h(To, { at: { view: "actions", types: view.type }, fontWeight: "medium" }, view.type),
      view.paused_at && h(Chakra.Badge, { colorPalette: "warning" }, "paused"),
      log.unserved.includes(view.type) &&
        h(Chakra.Badge, { colorPalette: "warning" }, "nobody serves it"),
    ),
    h(
      Chakra.Text,
      { color: "fg.muted", fontSize: "xs", hideBelow: "sm" },
      view.paused_at
        ? `paused by ${view.paused_by ?? "somebody"}`
        : view.served_by && `served by ${view.served_by}`,
    ),
  );

const Count = ({ view, state }) =>
  view[state] === 0
    ? h(Chakra.Text, { as: "span", color: "fg.muted" }, "0")
    : h(
        To,
        {
          at: { view: "actions", types: view.type, states: state },
          color: state === "dead" ? "failed.fg" : "fg",
        },
        h(Amount, { number: view[state], about: view.estimated.includes(state) }),
      );
