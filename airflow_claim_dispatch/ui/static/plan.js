// A dry run: what the next claims would take at a time, and who would make them.
import { Chakra, h, useSearchParams } from "./react.js";
import { query, useAnswer } from "./api.js";
import { sum } from "./chart.js";
import { When } from "./filters.js";
import { Answer, Loading, Nothing } from "./notices.js";
import { written } from "./times.js";
import { count, plural, Time, To } from "./words.js";

const EVERY = 10_000;

/** Words: the time, as the API and the shell take it. */
const MOMENTS = { Now: "", "In 1 hour": "PT1H", "In 1 day": "P1D" };

export function Plan({ zone }) {
  const [place, setPlace] = useSearchParams();
  const at = place.get("at") ?? "";
  const answer = useAnswer(`plan${query({ at })}`, EVERY);
  const choose = (next) => setPlace(new URLSearchParams(query({ view: "plan", at: next })));
  return h(
    Chakra.Stack,
    { gap: 4 },
    h(Moment, { at, choose, zone }),
    h(Answer, { answer, loading: h(Loading, { rows: 6 }) }, (plan) =>
      h(
        Chakra.Stack,
        { gap: 3 },
        h(Summary, { plan, zone, isNow: at === "" }),
        plan.types.length
          ? h(Table, { plan, zone })
          : h(Nothing, { title: "Nothing would be due" }, "No claim would find anything then."),
        h(Assumptions, { plan, isNow: at === "" }),
      ),
    ),
  );
}

const Moment = ({ at, choose, zone }) =>
  h(
    Chakra.Flex,
    { as: "section", "aria-label": "Time", gap: 3, align: "end", wrap: "wrap" },
    h(
      Chakra.HStack,
      { role: "group", "aria-label": "Moments", gap: 2 },
      Object.entries(MOMENTS).map(([words, moment]) =>
        h(
          Chakra.Button,
          {
            key: words,
            size: "sm",
            variant: at === moment ? "subtle" : "outline",
            "aria-pressed": at === moment,
            onClick: () => choose(moment),
          },
          words,
        ),
      ),
    ),
    h(
      Chakra.Box,
      { minW: "14rem" },
      h(When, { label: "At", value: Number.isNaN(Date.parse(at)) ? "" : at, choose, zone }),
    ),
  );

const Summary = ({ plan, zone, isNow }) => {
  const [claimed, waiting] = ["claimed", "waiting"].map((name) =>
    sum(plan.types.map((type) => type[name])),
  );
  const more = plan.types.some((type) => type.at_least) ? " or more" : "";
  return h(
    Chakra.Text,
    { role: "status" },
    "At ",
    isNow ? written(plan.at, zone) : h(Time, { time: plan.at, zone, both: true }),
    `: ${plural(claimed, "action")} would be claimed, ${count(waiting)}${more} would wait.`,
  );
};

/** Columns that a narrow window does without. */
const WIDE = { oldest: { hideBelow: "md" }, ids: { hideBelow: "lg" } };

const Table = ({ plan, zone }) =>
  h(
    Chakra.Table.ScrollArea,
    { borderWidth: 1, borderRadius: "md", position: "relative" },
    h(
      Chakra.Table.Root,
      { size: "sm" },
      h(Chakra.Table.Caption, { srOnly: true }, "What would be claimed"),
      h(
        Chakra.Table.Header,
        null,
        h(
          Chakra.Table.Row,
          { bg: "bg.muted" },
          h(Chakra.Table.ColumnHeader, { ps: 4 }, "Type"),
          h(Chakra.Table.ColumnHeader, { textAlign: "end" }, "Claimed"),
          h(Chakra.Table.ColumnHeader, { textAlign: "end" }, "Waiting"),
          h(Chakra.Table.ColumnHeader, WIDE.oldest, "Oldest"),
          h(Chakra.Table.ColumnHeader, WIDE.ids, "First ids"),
        ),
      ),
      h(
        Chakra.Table.Body,
        null,
        plan.types.map((planned) => h(Planned, { key: planned.type, planned, zone })),
      ),
    ),
  );

const NUMBER = { textAlign: "end", fontVariantNumeric: "tabular-nums" };

const Planned = ({ planned, zone }) =>
  h(
    Chakra.Table.Row,
    { "data-type": planned.type },
    h(
      Chakra.Table.Cell,
      { ps: 4, minW: "7rem", whiteSpace: "normal", overflowWrap: "anywhere" },
      h(Name, { planned }),
    ),
    h(Chakra.Table.Cell, NUMBER, count(planned.claimed)),
    h(Chakra.Table.Cell, NUMBER, `${count(planned.waiting)}${planned.at_least ? "+" : ""}`),
    h(Chakra.Table.Cell, WIDE.oldest, h(Time, { time: planned.first, zone, both: true })),
    h(Chakra.Table.Cell, WIDE.ids, h(Ids, { planned })),
  );

const Name = ({ planned: { type, served_by: by, paused } }) =>
  h(
    Chakra.Stack,
    { gap: 0 },
    h(
      Chakra.HStack,
      { gap: 2, wrap: "wrap" },
      h(To, { at: { view: "actions", types: type }, fontWeight: "medium" }, type),
      paused && h(Chakra.Badge, { colorPalette: "warning" }, "paused"),
      by === null && h(Chakra.Badge, { colorPalette: "warning" }, "nobody serves it"),
    ),
    by !== null && h(Chakra.Text, { color: "fg.muted", fontSize: "xs" }, `by ${by}`),
  );

const Ids = ({ planned: { ids, claimed } }) =>
  h(
    Chakra.HStack,
    { gap: 2, wrap: "wrap" },
    ids.map((id) => h(To, { key: id, at: { action: id } }, `#${id}`)),
    claimed > ids.length && "…",
  );

const Assumptions = ({ plan, isNow }) =>
  h(
    Chakra.Text,
    { color: "fg.muted", fontSize: "sm" },
    `If nothing were published, claimed or decided until then; a claim takes up to ${count(plan.limit)}.`,
    !isNow && " Limits of types are left out: nobody knows where they will stand.",
  );
