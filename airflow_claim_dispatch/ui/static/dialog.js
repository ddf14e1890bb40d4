// A question before something changes: what will happen to how many, and a way back.
import { Chakra, h, useRef } from "./react.js";
import { Trouble } from "./notices.js";

/**
 * @param title what is asked, in a few words
 * @param confirm does it; without it, there is nothing to ask any more
 * @param verb the word on the button that does it
 * @param busy whether it is being done
 * @param disabled whether it cannot be done
 * @param error what went wrong when it was tried
 */
export function Dialog({ title, verb, danger, busy, disabled, error, confirm, close, children }) {
  const first = useRef(null);
  return h(
    Chakra.Dialog.Root,
    {
      open: true,
      role: "alertdialog",
      size: "md",
      initialFocusEl: () => first.current,
      onOpenChange: ({ open }) => open || close(),
    },
    h(
      Chakra.Portal,
      null,
      h(Chakra.Dialog.Backdrop),
      h(
        Chakra.Dialog.Positioner,
        null,
        h(
          Chakra.Dialog.Content,
          null,
          h(Chakra.Dialog.Header, null, h(Chakra.Dialog.Title, null, title)),
          h(
            Chakra.Dialog.Body,
            null,
            h(Chakra.Stack, { gap: 4 }, children, error && h(Trouble, { error })),
          ),
          h(
            Chakra.Dialog.Footer,
            null,
            h(
              Chakra.Button,
              { ref: first, variant: "outline", onClick: close },
              confirm ? "Back" : "Close",
            ),
            confirm &&
              h(
                Chakra.Button,
                {
                  colorPalette: danger ? "danger" : "brand",
                  loading: busy,
                  disabled,
                  onClick: confirm,
                },
                verb,
              ),
          ),
        ),
      ),
    ),
  );
}
