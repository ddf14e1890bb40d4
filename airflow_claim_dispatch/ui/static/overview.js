// All types at a glance: what waits, what died, how fast it goes; what needs somebody stands out.
import { Chakra, h, useState } from "./react.js";
import { useAnswer } from "./api.js";
import { sum } from "./chart.js";
import { PauseDialog } from "./pause.js";
import { PurgeButton } from "./purge.js";
import { Answer, Callout, Loading, Nothing } from "./notices.js";
import { Amount, COUNTED, Types } from "./types.js";
import { STATES, To } from "./words.js";

const EVERY = 10_000;

export function Overview({ user, zone }) {
  const answer = useAnswer("overview", EVERY);
  const [asking, ask] = useState(null);
  return h(
    Chakra.Stack,
    { gap: 4 },
    h(Answer, { answer, loading: h(Loading, { rows: 8 }) }, (log) =>
      log.types.length
        ? h(
            Chakra.Stack,
            { gap: 4 },
            h(Totals, { types: log.types }),
            h(Warnings, { log }),
            h(Types, { log, user, zone, ask }),
            user.may_decide && h(PurgeButton, { done: answer.again }),
          )
        : h(Nothing, { title: "The log is empty" }, "Publish an action, and it shows up here."),
    ),
    asking &&
      h(PauseDialog, {
        view: asking,
        close: () => ask(null),
        done: () => (ask(null), answer.again()),
      }),
  );
}

const Totals = ({ types }) =>
  h(
    Chakra.SimpleGrid,
    { columns: { base: 2, sm: 3, lg: 6 }, gap: 3 },
    COUNTED.map((state) => {
      const total = sum(types.map((type) => type[state]));
      const about = types.some((type) => type.estimated.includes(state));
      const alarming = state === "dead" && total > 0;
      return h(
        Chakra.Box,
        { key: state, borderWidth: 1, borderRadius: "md", p: 3, title: STATES[state][1] },
        h(Chakra.Text, { color: "fg.muted", fontSize: "sm" }, state),
        h(
          To,
          {
            at: { view: "actions", states: state },
            color: alarming ? "failed.fg" : "fg",
            fontSize: "2xl",
            fontWeight: "semibold",
            fontVariantNumeric: "tabular-nums",
            "data-total": state,
          },
          h(Amount, { number: total, about }),
        ),
      );
    }),
  );

const Warnings = ({ log }) => [
  log.unserved.length > 0 &&
    h(Warning, {
      key: "unserved",
      title: "Nobody serves",
      types: log.unserved,
      words: "Actions wait, but no processor has ever claimed them. Is one installed, its Dag on?",
    }),
  log.paused.length > 0 &&
    h(Warning, {
      key: "paused",
      title: "Paused",
      types: log.paused,
      words: "Nothing is claimed until somebody resumes it.",
    }),
];

const Warning = ({ title, types, words }) =>
  h(
    Callout,
    { colour: "warning", py: 2, fontSize: "sm" },
    h(Chakra.Text, { as: "span", fontWeight: "semibold" }, `${title}: ${types.join(", ")}.`),
    ` ${words}`,
  );
