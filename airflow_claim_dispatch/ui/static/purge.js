// Purging: what has outlived its retention is counted, and deleted after a question.
import { Chakra, h, useEffect, useRef, useState } from "./react.js";
import { post } from "./api.js";
import { Dialog } from "./dialog.js";
import { Field } from "./filters.js";
import { Loading } from "./notices.js";
import { count, plural } from "./words.js";

export function PurgeButton({ done }) {
  const [isAsking, ask] = useState(false);
  const close = (changed) => {
    ask(false);
    if (changed) done();
  };
  return h(
    Chakra.Flex,
    { gap: 3, align: "center", justify: "end", wrap: "wrap" },
    h(
      Chakra.Text,
      { color: "fg.muted", fontSize: "sm" },
      "What has ended stays as long as the retention says.",
    ),
    h(Chakra.Button, { size: "sm", variant: "outline", onClick: () => ask(true) }, "Purge"),
    isAsking && h(Question, { close }),
  );
}

function Question({ close }) {
  const [text, setText] = useState(null);
  const counted = useCount(text);
  const purge = usePurge();
  const written = text ?? (counted.data ? JSON.stringify(counted.data.retention, null, 2) : "");

  if (purge.answer) return h(Outcome, { gone: purge.answer, close });
  return h(
    Dialog,
    {
      title: "Purge?",
      verb: counted.data ? `Purge ${amount(counted.data)}` : "Purge",
      danger: true,
      busy: purge.gone !== null,
      disabled: !counted.data || isNothing(counted.data),
      error: counted.error ?? purge.error,
      confirm: () => purge.start(text),
      close: () => close(purge.gone !== null),
    },
    h(Retention, { text: written, setText, disabled: purge.gone !== null }),
    purge.gone ? h(Gone, { gone: purge.gone, words: "deleted so far" }) : h(Counted, { counted }),
  );
}

const Retention = ({ text, setText, disabled }) =>
  h(
    Field,
    { label: "Retention: by type and outcome, how long what has ended stays" },
    h(Chakra.Textarea, {
      size: "sm",
      fontFamily: "mono",
      rows: 8,
      spellCheck: false,
      value: text,
      disabled,
      onChange: (event) => setText(event.target.value),
    }),
  );

const Counted = ({ counted: { data, error } }) => {
  if (error) return null;
  if (!data) return h(Loading, { rows: 2, label: "Counting" });
  if (isNothing(data)) return h(Chakra.Text, { role: "status" }, "Nothing has outlived it.");
  return h(
    Chakra.Stack,
    { gap: 3 },
    h(Gone, { gone: data, from: data.after ? "At least " : "", words: "will be deleted" }),
    data.actions > 0 && h(ByType, { types: data.by_type }),
    h(
      Chakra.Text,
      { color: "fg.muted", fontSize: "sm" },
      "Idempotency keys of what is deleted publish new actions again.",
    ),
  );
};

const Gone = ({ gone: { actions, leases, decisions }, from = "", words }) =>
  h(
    Chakra.Text,
    { role: "status" },
    `${from}${plural(actions, "action")}, ${plural(leases, "lease")} and `,
    `${plural(decisions, "decision")} ${words}.`,
  );

const amount = ({ actions, after }) => (after ? "all" : plural(actions, "action"));

const isNothing = ({ actions, leases, decisions, after }) =>
  actions + leases + decisions === 0 && after === null;

const ByType = ({ types }) =>
  h(
    Chakra.Table.ScrollArea,
    { borderWidth: 1, borderRadius: "md", maxH: "10rem", tabIndex: 0 },
    h(
      Chakra.Table.Root,
      { size: "sm" },
      h(Chakra.Table.Caption, { srOnly: true }, "By type and outcome"),
      h(
        Chakra.Table.Body,
        null,
        Object.entries(types).flatMap(([type, outcomes]) =>
          Object.entries(outcomes).map(([outcome, number]) =>
            h(
              Chakra.Table.Row,
              { key: `${type} ${outcome}` },
              h(Chakra.Table.Cell, { whiteSpace: "normal", overflowWrap: "anywhere" }, type),
              h(Chakra.Table.Cell, null, outcome),
              h(
                Chakra.Table.Cell,
                { textAlign: "end", fontVariantNumeric: "tabular-nums" },
                count(number),
              ),
            ),
          ),
        ),
      ),
    ),
  );

const Outcome = ({ gone, close }) =>
  h(Dialog, { title: "Done", close: () => close(true) }, h(Gone, { gone, words: "deleted" }));

/** Count what would go by the retention `text`, null for the setting's; anew as it is edited. */
function useCount(text) {
  const [known, setKnown] = useState({ text: undefined, data: null, error: null });
  useEffect(() => {
    let isLeft = false;
    const tell = (told) => isLeft || setKnown({ text, data: null, error: null, ...told });
    const ask = () =>
      request(text, { dry_run: true }).then(
        (data) => tell({ data }),
        (error) => tell({ error }),
      );
    const timer = setTimeout(ask, text === null ? 0 : 400);
    return () => {
      isLeft = true;
      clearTimeout(timer);
    };
  }, [text]);
  return known.text === text ? known : { data: null, error: null };
}

/** Purge in as many requests as it takes, until all is done or the dialog is left. */
function usePurge() {
  const [state, setState] = useState({ gone: null, answer: null, error: null });
  const isLeft = useRef(false);
  useEffect(() => {
    isLeft.current = false;
    return () => (isLeft.current = true);
  }, []);

  const start = async (text) => {
    const gone = { actions: 0, leases: 0, decisions: 0 };
    try {
      let after = null;
      do {
        setState({ gone: { ...gone }, answer: null, error: null });
        const answer = await request(text, { after });
        for (const name of Object.keys(gone)) gone[name] += answer[name];
        after = answer.after;
      } while (after !== null && !isLeft.current);
      setState({ gone: null, answer: gone, error: null });
    } catch (error) {
      setState({ gone: null, answer: null, error });
    }
  };
  return { ...state, start };
}

async function request(text, more) {
  return post("purge", { retention: text === null ? null : parsed(text), ...more });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error("The retention is not JSON.");
  }
}
