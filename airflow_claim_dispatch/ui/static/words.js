// The words of the log, and Airflow's colours for them.
import { Chakra, h, RouterLink } from "./react.js";
import { query } from "./api.js";
import { relative, written } from "./times.js";

/** State: [colour of Airflow's theme, what it means]. */
export const STATES = {
  scheduled: ["gray", "its time has not come"],
  due: ["info", "may be claimed now"],
  claimed: ["running", "a task holds it, under a lease"],
  retrying: ["up_for_retry", "failed, and waits to run again"],
  dead: ["failed", "given up"],
  processed: ["success", "done"],
  skipped: ["skipped", "a rule said no, or it expired"],
  cancelled: ["removed", "called off"],
};

export const State = ({ state, ...more }) =>
  h(
    Chakra.Badge,
    {
      colorPalette: STATES[state][0],
      variant: "subtle",
      borderRadius: "full",
      px: 2,
      title: STATES[state][1],
      ...more,
    },
    h(Chakra.Box, {
      as: "span",
      "aria-hidden": true,
      boxSize: "8px",
      borderRadius: "full",
      bg: "colorPalette.solid",
    }),
    state,
  );

/** A time in Airflow's zone, with how far away it is. */
export const Time = ({ time, zone, both = false }) =>
  time
    ? h(
        Chakra.Text,
        {
          as: "time",
          dateTime: time,
          title: `${written(time, zone)} (${zone})`,
          whiteSpace: "nowrap",
        },
        both ? written(time, zone) : relative(time),
        both && h(Chakra.Text, { as: "span", color: "fg.muted" }, ` (${relative(time)})`),
      )
    : h(Chakra.Text, { as: "span", color: "fg.muted" }, "–");

const PAGE = "/plugin/claim-dispatch";

/** Where the page shows something: `place({ action: 42 })`. */
export const place = (parameters) => ({ pathname: PAGE, search: query(parameters) });

/** A link to another place on the page, also from a tab of Airflow. */
export const To = ({ at, children, ...more }) =>
  h(
    Chakra.Link,
    { asChild: true, color: "fg.info", ...more },
    h(RouterLink, { to: place(at) }, children),
  );

export const count = (number) => number.toLocaleString("en");

/** `plural(1, "action")` is `1 action`. */
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
