// The rules of an action, and what each says now.
import { Chakra, h } from "./react.js";
import { Answer } from "./notices.js";

export const Rules = ({ answer, settled }) =>
  h(Answer, { answer }, (verdicts) =>
    verdicts.length === 0
      ? h(Chakra.Text, { color: "fg.muted", fontSize: "sm" }, "None: it runs when it is due.")
      : h(
          Chakra.Stack,
          { gap: 3 },
          verdicts.map((verdict, number) => h(Rule, { key: number, verdict })),
          settled &&
            h(
              Chakra.Text,
              { color: "fg.muted", fontSize: "sm" },
              "As they would evaluate now; the action has ended.",
            ),
        ),
  );

const Rule = ({ verdict }) =>
  h(
    Chakra.Box,
    { borderWidth: 1, borderRadius: "md", p: 3 },
    h(
      Chakra.HStack,
      { align: "start", gap: 3 },
      h(Holds, { holds: verdict.holds }),
      h(
        Chakra.Stack,
        { gap: 1, minW: 0 },
        h(
          Chakra.Code,
          {
            bg: "transparent",
            px: 0,
            fontSize: "xs",
            overflowWrap: "anywhere",
            whiteSpace: "normal",
          },
          typeof verdict.rule === "string" ? verdict.rule : JSON.stringify(verdict.rule),
        ),
        verdict.error && h(Chakra.Text, { color: "failed.fg", fontSize: "sm" }, verdict.error),
        Object.entries(verdict.seen).map(([name, value]) =>
          h(
            Chakra.Text,
            { key: name, color: "fg.muted", fontSize: "xs", overflowWrap: "anywhere" },
            `${name} is ${JSON.stringify(value)}`,
          ),
        ),
      ),
    ),
  );

const Holds = ({ holds }) => {
  const [colour, word] =
    holds === null ? ["failed", "fails"] : holds ? ["success", "holds"] : ["skipped", "says no"];
  return h(Chakra.Badge, { colorPalette: colour, flexShrink: 0 }, word);
};
