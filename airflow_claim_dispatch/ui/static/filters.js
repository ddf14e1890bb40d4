// Which actions the list shows; the place (the address of the page) keeps it.
import { Chakra, h, useEffect, useId, useState } from "./react.js";
import { instant, written } from "./times.js";
import { STATES } from "./words.js";

/** The parameters of a list in the address, in the API's own words. */
export const PARAMETERS = ["states", "types", "key", "text", "end_from", "end_until", "order"];

/** `{states: ["dead"], types: "email", …}` from the address. */
export const read = (place) => ({
  ...Object.fromEntries(PARAMETERS.map((name) => [name, place.get(name) ?? ""])),
  states: place.getAll("states"),
});

export function Filters({ chosen, choose, types, zone, mayDecide }) {
  const set = (name) => (value) => choose({ ...chosen, [name]: value });
  return h(
    Chakra.Stack,
    { as: "section", "aria-label": "Filters", gap: 3 },
    h(States, { chosen: chosen.states, choose: set("states") }),
    h(
      Chakra.SimpleGrid,
      { columns: { base: 1, sm: 2, lg: 3, xl: 6 }, gap: 3 },
      h(Typed, { label: "Type", value: chosen.types, choose: set("types"), suggestions: types }),
      h(Typed, { label: "Idempotency key", value: chosen.key, choose: set("key") }),
      h(Typed, {
        label: "Text in payload",
        value: chosen.text,
        choose: set("text"),
        disabled: !mayDecide,
        title: mayDecide ? undefined : "Payloads are for those who may decide.",
      }),
      h(When, { label: "Due from", value: chosen.end_from, choose: set("end_from"), zone }),
      h(When, { label: "Due until", value: chosen.end_until, choose: set("end_until"), zone }),
      h(Order, { value: chosen.order, choose: set("order") }),
    ),
  );
}

/** Not solid: white on Airflow's cyan or yellow is hard to read. */
const CHOSEN = { variant: "subtle", borderColor: "colorPalette.solid", fontWeight: "bold" };

function States({ chosen, choose }) {
  const toggle = (state) =>
    choose(chosen.includes(state) ? chosen.filter((s) => s !== state) : [...chosen, state]);
  return h(
    Chakra.Wrap,
    { role: "group", "aria-label": "States", gap: 2 },
    Object.entries(STATES).map(([state, [colour, meaning]]) =>
      h(
        Chakra.Button,
        {
          key: state,
          size: "xs",
          borderRadius: "full",
          colorPalette: colour,
          ...(chosen.includes(state) ? CHOSEN : { variant: "outline" }),
          "aria-pressed": chosen.includes(state),
          title: meaning,
          onClick: () => toggle(state),
        },
        state,
      ),
    ),
    chosen.length > 0 &&
      h(Chakra.Button, { size: "xs", variant: "ghost", onClick: () => choose([]) }, "all states"),
  );
}

/** An input that waits until its user stops typing. */
function Typed({ label, value, choose, suggestions, ...more }) {
  const [text, setText] = useState(value);
  const list = useId();
  useEffect(() => setText(value), [value]);
  useEffect(() => {
    if (text.trim() === value) return undefined;
    const timer = setTimeout(() => choose(text.trim()), 400);
    return () => clearTimeout(timer);
  }, [text, value, choose]);
  return h(
    Field,
    { label },
    h(Chakra.Input, {
      size: "sm",
      value: text,
      list: suggestions && list,
      onChange: (event) => setText(event.target.value),
      ...more,
    }),
    suggestions &&
      h(
        "datalist",
        { id: list },
        suggestions.map((type) => h("option", { key: type, value: type })),
      ),
  );
}

/** A time in Airflow's zone; half a year, as it is being typed, is not taken yet. */
export function When({ label, value, choose, zone }) {
  const shown = value ? written(value, zone).replace(" ", "T") : "";
  const [text, setText] = useState(shown);
  useEffect(() => setText(shown), [shown]);
  const change = ({ target }) => {
    setText(target.value);
    if (target.value === "") choose("");
    else if (target.value >= "1900") choose(instant(target.value, zone));
  };
  return h(
    Field,
    { label: `${label} (${zone})` },
    h(Chakra.Input, { size: "sm", type: "datetime-local", value: text, onChange: change }),
  );
}

const ORDERS = {
  "": "As suits the filter",
  newest: "Newest first",
  oldest: "Oldest first",
  soonest: "Soonest due first",
  latest: "Latest due first",
};

const Order = ({ value, choose }) =>
  h(
    Field,
    { label: "Order" },
    h(
      Chakra.NativeSelect.Root,
      { size: "sm" },
      h(
        Chakra.NativeSelect.Field,
        { value, onChange: (event) => choose(event.target.value) },
        Object.entries(ORDERS).map(([order, words]) =>
          h("option", { key: order, value: order }, words),
        ),
      ),
      h(Chakra.NativeSelect.Indicator),
    ),
  );

export const Field = ({ label, children }) =>
  h(
    Chakra.Field.Root,
    { gap: 1 },
    h(Chakra.Field.Label, { fontSize: "xs", color: "fg.muted" }, label),
    children,
  );
