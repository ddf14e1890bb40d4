// Deciding: about one action, about those that are ticked, or about all that a filter means.
import { Chakra, h, useState } from "./react.js";
import { post, query, useAnswer } from "./api.js";
import { Dialog } from "./dialog.js";
import { When } from "./filters.js";
import { Answer, Loading } from "./notices.js";
import { fitting, REFUSED, VERBS } from "./verbs.js";
import { count, plural } from "./words.js";

/** Buttons for one action. */
export function DecideButtons({ detail, zone, done }) {
  // The API knows whether somebody holds it: a foreign hand can write a claim without a lease.
  const verbs = detail.state === "claimed" ? ["requeue", "cancel"] : fitting([detail.state]);
  return h(Deciding, { verbs, which: { ids: [detail.id] }, zone, done });
}

/** Buttons for what is ticked; without ticks, for all that the filter means. */
export function DecideBar({ chosen, selected, zone, done }) {
  const { order, ...filter } = chosen;
  const which = selected.size ? { ids: [...selected] } : filter;
  const saysNothing = query(which) === "";
  return h(
    Chakra.Flex,
    { role: "group", "aria-label": "Decide", gap: 3, align: "center", wrap: "wrap" },
    h(Deciding, { verbs: fitting(chosen.states), which, zone, done, disabled: saysNothing }),
    h(
      Chakra.Text,
      { color: "fg.muted", fontSize: "sm", role: "status" },
      selected.size
        ? `the ${count(selected.size)} selected`
        : saysNothing
          ? "Tick actions, or choose a filter, to decide about them."
          : "all that match the filter",
    ),
  );
}

function Deciding({ verbs, which, zone, done, disabled }) {
  const [verb, ask] = useState(null);
  const close = (changed) => {
    ask(null);
    if (changed) done();
  };
  return h(
    Chakra.HStack,
    { gap: 2, wrap: "wrap" },
    verbs.map((name) =>
      h(
        Chakra.Button,
        { key: name, size: "sm", variant: "outline", disabled, onClick: () => ask(name) },
        VERBS[name].label,
      ),
    ),
    verb && h(Question, { verb, which, zone, close }),
  );
}

function Question({ verb, which, zone, close }) {
  const { label, means, danger } = VERBS[verb];
  const counted = useAnswer(which.ids ? null : `count${query(which)}`);
  const meant = which.ids ? { number: which.ids.length, at_least: false } : counted.data;
  const [moment, setMoment] = useState("");
  const [tried, setTried] = useState({ busy: false, error: null, answer: null });

  const confirm = () => {
    setTried({ busy: true, error: null, answer: null });
    post(verb, body(which, meant, verb === "reschedule" && moment)).then(
      (answer) => setTried({ busy: false, error: null, answer }),
      (error) => setTried({ busy: false, error, answer: null }),
    );
  };
  if (tried.answer) return h(Outcome, { verb, answer: tried.answer, close });
  return h(
    Dialog,
    {
      title: `${label}?`,
      verb: meant ? `${label} ${meant.at_least ? "all" : plural(meant.number, "action")}` : label,
      danger,
      busy: tried.busy,
      disabled: !meant || meant.number === 0 || (verb === "reschedule" && !moment),
      error: tried.error,
      confirm,
      close: () => close(false),
    },
    which.ids
      ? means(plural(meant.number, "action"))
      : h(
          Answer,
          { answer: counted, loading: h(Loading, { rows: 1, label: "Counting" }) },
          (found) => h(Chakra.Text, null, means(amount(found))),
        ),
    verb === "reschedule" && h(When, { label: "New time", value: moment, choose: setMoment, zone }),
  );
}

const amount = ({ number, at_least }) =>
  at_least ? `More than ${plural(number, "action")}` : plural(number, "action");

/** What was counted is what may be changed: others that match by then are left alone. */
const body = ({ states, types, key, text, end_from, end_until, ids }, meant, moment) => ({
  which: {
    states: states ?? [],
    types: types ? [types] : [],
    key: key || null,
    text: text || null,
    end_from: end_from || null,
    end_until: end_until || null,
    ids: ids ?? null,
  },
  at_most: meant.at_least ? null : meant.number,
  ...(moment && { end_at: moment }),
});

const Outcome = ({ verb, answer, close }) => {
  const refused = Object.entries(answer.refused).filter(([, number]) => number > 0);
  return h(
    Dialog,
    { title: "Done", close: () => close(true) },
    h(Chakra.Text, null, `${plural(answer.changed, "action")} ${VERBS[verb].done}.`),
    refused.length > 0 &&
      h(
        Chakra.List.Root,
        { ps: 5, "aria-label": "Left alone" },
        refused.map(([reason, number]) =>
          h(
            Chakra.List.Item,
            { key: reason },
            `${plural(number, "action")} left alone: ${REFUSED[reason] ?? reason}`,
          ),
        ),
      ),
  );
};
