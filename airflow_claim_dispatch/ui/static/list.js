// Actions, a page at a time: filtered, in order, refreshed while somebody looks.
import { Chakra, h, useEffect, useState, useSearchParams } from "./react.js";
import { query, useAnswer } from "./api.js";
import { DecideBar } from "./decide.js";
import { Filters, read } from "./filters.js";
import { Answer, Loading, Nothing } from "./notices.js";
import { Rows } from "./rows.js";
import { plural } from "./words.js";

const LIMIT = 50;
const EVERY = 5_000;

export function List({ user, zone }) {
  const [place, setPlace] = useSearchParams();
  const chosen = read(place);
  const overview = useAnswer("overview");
  const path = `actions${query({ ...chosen, after: place.get("after"), limit: LIMIT })}`;
  const answer = useAnswer(path, EVERY);
  const [selected, setSelected] = useState(new Set());
  useEffect(() => setSelected(new Set()), [path]);

  const choose = (next) => setPlace(new URLSearchParams(query({ view: "actions", ...next })));
  const goOn = (after) =>
    setPlace(new URLSearchParams(query({ view: "actions", ...chosen, after })));

  return h(
    Chakra.Stack,
    { gap: 4 },
    h(Filters, {
      chosen,
      choose,
      types: overview.data?.types.map(({ type }) => type) ?? [],
      zone,
      mayDecide: user.may_decide,
    }),
    user.may_decide &&
      h(DecideBar, {
        chosen,
        selected,
        zone,
        done: () => (setSelected(new Set()), answer.again()),
      }),
    h(Answer, { answer, loading: h(Loading, { rows: 8 }) }, (page) =>
      h(
        Chakra.Stack,
        { gap: 3 },
        page.items.length
          ? h(Rows, {
              items: page.items,
              zone,
              selected: user.may_decide ? selected : undefined,
              setSelected,
            })
          : h(
              Nothing,
              { title: page.stopped ? "None so far" : "No actions" },
              page.stopped
                ? "Few actions match: look further with the button below."
                : "Nothing matches this filter.",
            ),
        h(Turning, { page, place, goOn }),
      ),
    ),
  );
}

const Turning = ({ page, place, goOn }) =>
  h(
    Chakra.HStack,
    { justify: "space-between", wrap: "wrap" },
    h(
      Chakra.Text,
      { color: "fg.muted", fontSize: "sm", role: "status" },
      `${plural(page.items.length, "action")} on this page, refreshed every ${EVERY / 1000} s`,
    ),
    h(
      Chakra.HStack,
      null,
      place.has("after") &&
        h(Chakra.Button, { size: "sm", variant: "ghost", onClick: () => goOn("") }, "First page"),
      h(
        Chakra.Button,
        {
          size: "sm",
          variant: "outline",
          disabled: page.after === null,
          onClick: () => goOn(page.after),
        },
        page.stopped ? "Look further" : "Next page",
      ),
    ),
  );
