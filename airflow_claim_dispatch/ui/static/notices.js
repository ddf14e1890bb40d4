// What stands where an answer is missing: loading, an error, nothing found.
import { Chakra, h } from "./react.js";

export const Loading = ({ rows = 4, label = "Loading" }) =>
  h(
    Chakra.Stack,
    { gap: 2, role: "status", "aria-label": label },
    Array.from({ length: rows }, (_, index) =>
      h(Chakra.Skeleton, { key: index, height: 8, opacity: 1 - index / (rows + 1) }),
    ),
  );

export const Trouble = ({ error, again }) =>
  h(
    Chakra.Alert.Root,
    { status: error.status === 403 ? "warning" : "error", role: "alert", alignItems: "center" },
    h(Chakra.Alert.Indicator),
    h(
      Chakra.Alert.Content,
      null,
      h(Chakra.Alert.Title, null, title(error)),
      h(Chakra.Alert.Description, null, error.message),
    ),
    again &&
      error.status !== 403 &&
      h(Chakra.Button, { size: "xs", variant: "outline", onClick: again }, "Try again"),
  );

const title = (error) =>
  ({ 0: "No answer", 401: "Logged out", 403: "Not permitted", 404: "Not found" })[error.status] ??
  "That did not work";

export const Nothing = ({ title: words, children }) =>
  h(
    Chakra.EmptyState.Root,
    { size: "sm" },
    h(
      Chakra.EmptyState.Content,
      { gap: 1 },
      h(Chakra.EmptyState.Title, null, words),
      h(Chakra.EmptyState.Description, { textAlign: "center" }, children),
    ),
  );

/** Something that its reader should know, told calmly: a line of colour beside it. */
export const Callout = ({ colour, children, ...more }) =>
  h(
    Chakra.Box,
    {
      colorPalette: colour,
      bg: "bg.muted",
      borderInlineStartWidth: 4,
      borderColor: "colorPalette.solid",
      borderRadius: "sm",
      px: 4,
      py: 3,
      overflowWrap: "anywhere",
      ...more,
    },
    children,
  );

/** The data of a `useAnswer`, or what stands in for it; an error above data that is still shown. */
export function Answer({ answer, loading, children }) {
  const { data, error, again } = answer;
  return h(
    Chakra.Stack,
    { gap: 3 },
    error && h(Trouble, { error, again }),
    data === null ? !error && (loading ?? h(Loading)) : children(data),
  );
}
