// What is wrong with the log and its database, and what to do about it.
import { Chakra, h } from "./react.js";
import { useAnswer } from "./api.js";
import { sum } from "./chart.js";
import { Answer, Callout, Loading } from "./notices.js";
import { plural } from "./words.js";

const EVERY = 30_000;

export function Doctor() {
  const answer = useAnswer("doctor", EVERY);
  return h(Answer, { answer, loading: h(Loading, { rows: 8, label: "Examining" }) }, (diagnosis) =>
    h(
      Chakra.Stack,
      { gap: 4 },
      h(Verdict, { diagnosis }),
      h(
        Chakra.Stack,
        { as: "ul", "aria-label": "Checks", gap: 2, listStyleType: "none" },
        diagnosis.checks.map((check) => h(Check, { key: check.name, check })),
      ),
    ),
  );
}

const Verdict = ({ diagnosis: { is_well: isWell, checks } }) =>
  h(
    Callout,
    { role: "status", colour: isWell ? "success" : "failed", fontWeight: "medium" },
    isWell
      ? `All is well: ${plural(checks.length, "check")}, no problem.`
      : `${plural(sum(checks.map((check) => check.problems.length)), "problem")} found.`,
  );

const Check = ({ check: { name, problems } }) =>
  h(
    Chakra.Stack,
    { as: "li", gap: 3, borderWidth: 1, borderRadius: "md", p: 3, "data-check": name },
    h(
      Chakra.HStack,
      { gap: 3 },
      h(
        Chakra.Badge,
        {
          colorPalette: problems.length ? "failed" : "success",
          minW: "5rem",
          justifyContent: "center",
        },
        problems.length ? "problem" : "ok",
      ),
      h(Chakra.Heading, { as: "h2", size: "sm" }, name),
    ),
    problems.map(({ what, remedy }) =>
      h(
        Chakra.Stack,
        { key: what, gap: 1, overflowWrap: "anywhere" },
        h(Chakra.Text, { fontWeight: "medium" }, what),
        h(Chakra.Text, { fontSize: "sm" }, `→ ${remedy}`),
      ),
    ),
  );
