// A table of actions; with `selected`, a set of ids, its rows can be ticked.
import { Chakra, h } from "./react.js";
import { relative, written } from "./times.js";
import { State, Time, To } from "./words.js";

export function Rows({ items, zone, selected, setSelected }) {
  const all = items.every((item) => selected?.has(item.id));
  const select = (ids, isChosen) => {
    const next = new Set(selected);
    for (const id of ids) isChosen ? next.add(id) : next.delete(id);
    setSelected(next);
  };
  return h(
    Chakra.Table.ScrollArea,
    { borderWidth: 1, borderRadius: "md", position: "relative" },
    h(
      Chakra.Table.Root,
      { size: "sm", interactive: true },
      h(Chakra.Table.Caption, { srOnly: true }, "Actions"),
      h(
        Chakra.Table.Header,
        null,
        h(
          Chakra.Table.Row,
          { bg: "bg.muted" },
          selected &&
            h(
              Chakra.Table.ColumnHeader,
              { w: 8 },
              h(Tick, {
                label: "Select all on this page",
                checked: all,
                change: (isChosen) =>
                  select(
                    items.map((item) => item.id),
                    isChosen,
                  ),
              }),
            ),
          ["Action", "State", "Earliest", "Attempts", "Key", "Payload and error"].map((title) =>
            h(Chakra.Table.ColumnHeader, { key: title, ...WIDE[title] }, title),
          ),
        ),
      ),
      h(
        Chakra.Table.Body,
        null,
        items.map((item) =>
          h(Row, {
            key: item.id,
            item,
            zone,
            checked: selected?.has(item.id),
            change: (isChosen) => select([item.id], isChosen),
          }),
        ),
      ),
    ),
  );
}

/** Columns that a narrow window does without. */
const WIDE = {
  Attempts: { hideBelow: "md", textAlign: "end" },
  Key: { hideBelow: "lg" },
  "Payload and error": { hideBelow: "md" },
};

const Row = ({ item, zone, checked, change }) =>
  h(
    Chakra.Table.Row,
    { "data-action": item.id },
    checked !== undefined &&
      h(Chakra.Table.Cell, null, h(Tick, { label: `Select action ${item.id}`, checked, change })),
    h(
      Chakra.Table.Cell,
      null,
      h(To, { at: { action: item.id }, fontWeight: "medium" }, item.type),
      h(Chakra.Text, { color: "fg.muted", fontSize: "xs" }, `#${item.id}`),
    ),
    h(Chakra.Table.Cell, null, h(State, { state: item.state })),
    h(
      Chakra.Table.Cell,
      null,
      h(Time, { time: item.end_at, zone }),
      h(
        Chakra.Text,
        { color: "fg.muted", fontSize: "xs", whiteSpace: "nowrap" },
        item.state === "retrying" && item.visible_at
          ? `again ${relative(item.visible_at)}`
          : item.end_at && written(item.end_at, zone),
      ),
    ),
    h(Chakra.Table.Cell, WIDE.Attempts, item.attempts, h(Failures, { item })),
    h(Chakra.Table.Cell, { ...WIDE.Key, maxW: "14rem", truncate: true, title: item.key }, item.key),
    h(
      Chakra.Table.Cell,
      { ...WIDE["Payload and error"], maxW: "28rem" },
      item.error &&
        h(Chakra.Text, { color: "failed.fg", truncate: true, title: item.error }, item.error),
      h(
        Chakra.Text,
        { fontFamily: "mono", fontSize: "xs", color: "fg.muted", truncate: true },
        item.payload,
      ),
    ),
  );

const Failures = ({ item }) =>
  item.fail_count > 0 &&
  h(Chakra.Text, { color: "failed.fg", fontSize: "xs" }, `${item.fail_count} failed`);

const Tick = ({ label, checked, change }) =>
  h(
    Chakra.Checkbox.Root,
    { size: "sm", checked, onCheckedChange: (event) => change(event.checked === true) },
    h(Chakra.Checkbox.HiddenInput, { "aria-label": label }),
    h(Chakra.Checkbox.Control),
  );
