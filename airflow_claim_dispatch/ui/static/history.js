// Who held an action, with the way to the task instance and its log.
import { Chakra, h, RouterLink } from "./react.js";
import { Time } from "./words.js";

/** Where Airflow shows a task instance; its first tab is the log. */
const logOf = ({ dag_id, run_id, task_id, map_index }, tryNumber) => {
  const place = ["dags", dag_id, "runs", run_id, "tasks", task_id];
  if (map_index >= 0) place.push("mapped", map_index);
  return `/${place.map(encodeURIComponent).join("/")}?try_number=${tryNumber}`;
};

export const History = ({ history, deployment, zone }) =>
  history.holdings.length === 0
    ? h(Chakra.Text, { color: "fg.muted", fontSize: "sm" }, "No task has held it yet.")
    : h(
        Chakra.Timeline.Root,
        { size: "sm", variant: "subtle" },
        history.holdings
          .toReversed()
          .map((holding) => h(Holding, { key: holding.token, holding, deployment, zone })),
        !history.complete &&
          h(
            Chakra.Text,
            { color: "fg.muted", fontSize: "sm" },
            "There were too many leases to look through them all: earlier ones are left out.",
          ),
      );

const Holding = ({ holding, deployment, zone }) =>
  h(
    Chakra.Timeline.Item,
    null,
    h(
      Chakra.Timeline.Connector,
      null,
      h(Chakra.Timeline.Separator),
      h(Chakra.Timeline.Indicator, {
        colorPalette: holding.holds ? "running" : holding.settled ? "success" : "gray",
        bg: "colorPalette.solid",
      }),
    ),
    h(
      Chakra.Timeline.Content,
      { gap: 0 },
      h(Chakra.Timeline.Title, null, what(holding)),
      h(Holder, { holding, deployment }),
      h(
        Chakra.Timeline.Description,
        { display: "flex", gap: 1, flexWrap: "wrap" },
        h(Time, { time: holding.opened_at, zone, both: true }),
        holding.holds &&
          holding.lease_until && [
            "lease until",
            h(Time, { key: 1, time: holding.lease_until, zone }),
          ],
      ),
    ),
  );

const what = ({ kind, holds, settled }) => {
  const doing = kind === "run" ? "Ran" : "Claimed";
  if (holds) return kind === "run" ? "Runs now" : "Claimed, waits to be taken";
  return settled ? `${doing}, and settled` : doing;
};

const index = ({ map_index }) => (map_index >= 0 ? ` [${map_index}]` : "");

/** Only tasks of this Airflow can be linked to. */
const Holder = ({ holding: { task, owner, try_number }, deployment }) =>
  task && task.deployment === deployment
    ? h(
        Chakra.Link,
        { asChild: true, color: "fg.info", fontSize: "sm" },
        h(
          RouterLink,
          { to: logOf(task, try_number) },
          `${task.dag_id} › ${task.task_id}${index(task)}, try ${try_number}`,
        ),
      )
    : h(Chakra.Text, { fontSize: "sm" }, `${owner}, try ${try_number}`);
