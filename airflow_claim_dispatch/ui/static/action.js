// One action: what holds it, what it says, who held it, and what may be done about it.
import { Chakra, h } from "./react.js";
import { useAnswer } from "./api.js";
import { DecideButtons } from "./decide.js";
import { Trail } from "./decisions.js";
import { Document, pretty } from "./document.js";
import { History } from "./history.js";
import { Answer, Callout, Loading } from "./notices.js";
import { Rules } from "./rules.js";
import { State, STATES, Time, To } from "./words.js";

const EVERY = 5_000;

export function Action({ id, user, zone }) {
  const place = `actions/${encodeURIComponent(id)}`;
  const action = useAnswer(place, EVERY);
  const reason = useAnswer(`${place}/why`, EVERY);
  const rules = useAnswer(`${place}/rules`, EVERY);
  const again = () => [action, reason, rules].forEach((answer) => answer.again());
  return h(
    Chakra.Stack,
    { gap: 5 },
    h(To, { at: { view: "actions" }, fontSize: "sm", alignSelf: "start" }, "‹ All actions"),
    h(Answer, { answer: action, loading: h(Loading, { rows: 8 }) }, (detail) =>
      h(
        Chakra.Stack,
        { gap: 5 },
        h(Head, { detail, user, zone, again }),
        h(Why, { detail, reason }),
        h(Facts, { detail, zone }),
        h(
          Chakra.SimpleGrid,
          { columns: { base: 1, lg: 2 }, gap: 5 },
          h(
            Chakra.Stack,
            { gap: 5, minW: 0 },
            h(Payload, { detail, user }),
            h(Section, { title: "Rules" }, h(Rules, { answer: rules, settled: !!detail.outcome })),
          ),
          h(
            Chakra.Stack,
            { gap: 5, minW: 0 },
            detail.error &&
              h(
                Section,
                { title: detail.outcome === "skipped" ? "Why skipped" : "Last error" },
                h(Document, { label: "Last error", borderColor: "border.error" }, detail.error),
              ),
            h(
              Section,
              { title: "Claims" },
              h(History, { history: detail.history, deployment: user.deployment, zone }),
            ),
            h(Section, { title: "Decisions" }, h(Trail, { decisions: detail.decisions, zone })),
          ),
        ),
      ),
    ),
  );
}

const Head = ({ detail, user, zone, again }) =>
  h(
    Chakra.Flex,
    { justify: "space-between", wrap: "wrap", gap: 3, align: "center" },
    h(
      Chakra.HStack,
      { gap: 3, wrap: "wrap" },
      h(Chakra.Heading, { as: "h2", size: "lg", overflowWrap: "anywhere" }, detail.type),
      h(Chakra.Text, { color: "fg.muted" }, `#${detail.id}`),
      h(State, { state: detail.state, size: "md" }),
    ),
    user.may_decide && h(DecideButtons, { detail, zone, done: again }),
  );

const Why = ({ detail, reason }) =>
  h(
    Callout,
    { role: "note", "aria-label": "Why", colour: STATES[detail.state][0] },
    reason.error
      ? reason.error.message
      : reason.data
        ? sentence(reason.data.sentence)
        : h(Chakra.Skeleton, { height: 5 }),
  );

const sentence = (words) => `${words[0].toUpperCase()}${words.slice(1)}.`;

const Facts = ({ detail, zone }) => {
  const time = (value) => h(Time, { time: value, zone, both: true });
  const facts = [
    ["Earliest", time(detail.end_at)],
    detail.visible_at && ["Again after", time(detail.visible_at)],
    detail.expires_at && ["Expires", time(detail.expires_at)],
    detail.processed_at && ["Processed", time(detail.processed_at)],
    ["Published", time(detail.created_at)],
    ["Changed", time(detail.updated_at)],
    ["Attempts", attempts(detail)],
    ["Idempotency key", detail.key ?? "–"],
  ].filter(Boolean);
  return h(
    Chakra.DataList.Root,
    {
      display: "grid",
      gridTemplateColumns: { base: "1fr", sm: "1fr 1fr", lg: "repeat(4, 1fr)" },
      gap: 4,
      size: "md",
    },
    facts.map(([label, value]) =>
      h(
        Chakra.DataList.Item,
        { key: label },
        h(Chakra.DataList.ItemLabel, null, label),
        h(Chakra.DataList.ItemValue, { overflowWrap: "anywhere" }, value),
      ),
    ),
  );
};

const attempts = ({ attempts: number, fail_count, expiries }) =>
  [
    number,
    fail_count > 0 && `${fail_count} failed`,
    expiries > 0 && `${expiries} lost to a lease that ran out`,
  ]
    .filter((part) => part !== false)
    .join(", ");

const Payload = ({ detail, user }) =>
  h(
    Section,
    { title: "Payload" },
    detail.dirt && h(Chakra.Text, { color: "failed.fg", fontSize: "sm" }, detail.dirt),
    h(
      Document,
      { label: "Payload" },
      user.may_decide ? pretty(detail.document) : JSON.stringify(detail.payload, null, 2),
    ),
    !user.may_decide &&
      h(
        Chakra.Text,
        { color: "fg.muted", fontSize: "sm" },
        `Values are for those who may edit the connection ${user.conn_id}.`,
      ),
  );

export const Section = ({ title, children }) =>
  h(
    Chakra.Stack,
    { as: "section", "aria-label": title, gap: 2 },
    h(Chakra.Heading, { as: "h3", size: "sm" }, title),
    children,
  );
