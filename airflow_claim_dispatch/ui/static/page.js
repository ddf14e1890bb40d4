// The page under Browse. Which part of it is shown stands in the address, so that it can be sent.
import { Chakra, h, RouterLink, useSearchParams } from "./react.js";
import { useAnswer } from "./api.js";
import { Action } from "./action.js";
import { Decisions } from "./decisions.js";
import { Doctor } from "./doctor.js";
import { List } from "./list.js";
import { Answer } from "./notices.js";
import { Overview } from "./overview.js";
import { Plan } from "./plan.js";
import { useZone } from "./times.js";
import { place } from "./words.js";

const VIEWS = {
  overview: ["Overview", Overview],
  actions: ["Actions", List],
  plan: ["Plan", Plan],
  decisions: ["Decisions", Decisions],
  doctor: ["Doctor", Doctor],
};

export function Page() {
  const session = useAnswer("session");
  return h(
    Chakra.Stack,
    { id: "claim-dispatch", gap: 4, p: { base: 2, md: 4 }, minW: 0 },
    h(Answer, { answer: session }, (user) => h(Views, { user })),
  );
}

function Views({ user }) {
  const [address] = useSearchParams();
  const zone = useZone();
  const id = address.get("action");
  const view = id ? "actions" : (address.get("view") ?? "overview");
  const [, Shown] = VIEWS[view] ?? VIEWS.overview;
  return h(
    Chakra.Stack,
    { gap: 4 },
    h(Header, { user, view }),
    id ? h(Action, { key: id, id, user, zone }) : h(Shown, { user, zone }),
  );
}

const Header = ({ user, view }) =>
  h(
    Chakra.Flex,
    { as: "header", wrap: "wrap", align: "baseline", gap: 3, justify: "space-between" },
    h(
      Chakra.HStack,
      { align: "baseline", gap: 3, wrap: "wrap" },
      h(Chakra.Heading, { as: "h1", size: "lg" }, "Claim Dispatch"),
      h(
        Chakra.Text,
        { color: "fg.muted", fontSize: "sm" },
        `${user.table} on ${user.conn_id}${user.may_decide ? "" : ", read only"}`,
      ),
    ),
    h(
      Chakra.HStack,
      { as: "nav", "aria-label": "Views", gap: 1, wrap: "wrap" },
      Object.entries(VIEWS).map(([name, [label]]) =>
        h(
          Chakra.Button,
          {
            key: name,
            asChild: true,
            size: "sm",
            variant: name === view ? "subtle" : "ghost",
            "aria-current": name === view ? "page" : undefined,
          },
          h(RouterLink, { to: place({ view: name }) }, label),
        ),
      ),
    ),
  );
