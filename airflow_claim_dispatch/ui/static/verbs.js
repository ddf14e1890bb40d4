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
    done: "made due",
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

/** Why the API leaves actions alone, as the shell says it. */
export const REFUSED = {
  in_flight: "somebody holds them",
  settled: "they have ended",
  pending: "they are waiting to run",
  key_taken: "another action has their idempotency key",
  missing: "there are none, or they no longer match",
};

/** Of an action in this state, or of a filter for these. */
export const fitting = (states) =>
  Object.keys(VERBS).filter(
    (verb) => !states.length || states.some((state) => VERBS[verb].states.includes(state)),
  );
