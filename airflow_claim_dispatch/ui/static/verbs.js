// What may be decided about actions, in the words of the API and the shell.

/** Verb: on the button, what it does to actions, to which states, what is said when it is done. */
export const VERBS = {
  requeue: {
    label: "Requeue",
    means: (actions) => `${actions} will run again, with all attempts.`,
    states: ["processed", "skipped", "dead", "cancelled"],
    done: "requeued",
  },
  "run-now": {
    label: "Run now",
    means: (actions) => `${actions} will be due now.`,
    states: ["scheduled", "retrying"],
    done: "due now",
  },
  reschedule: {
    label: "Reschedule",
    means: (actions) => `${actions} will wait for another time, and forget a backoff.`,
    states: ["scheduled", "due", "retrying"],
    done: "rescheduled",
  },
  cancel: {
    label: "Cancel",
    means: (actions) => `${actions} will not run. Idempotency keys are free again.`,
    states: ["scheduled", "due", "retrying"],
    done: "cancelled",
    danger: true,
  },
};

/** Why the API leaves an action alone. */
export const REFUSED = {
  in_flight: "held by a task",
  settled: "ended already",
  pending: "not ended, so nothing to requeue",
  key_taken: "another action has the idempotency key by now",
  missing: "gone, or changed so that it no longer matches",
};

/** Of an action in this state, or of a filter for these. */
export const fitting = (states) =>
  Object.keys(VERBS).filter(
    (verb) => !states.length || states.some((state) => VERBS[verb].states.includes(state)),
  );
