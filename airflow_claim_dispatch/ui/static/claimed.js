// A tab of Airflow's own pages: the actions that this run, or this task instance, has claimed.
import { Chakra, h } from "./react.js";
import { query, useAnswer } from "./api.js";
import { Answer, Nothing } from "./notices.js";
import { Rows } from "./rows.js";
import { useZone } from "./times.js";

const EVERY = 10_000;

export function Claimed({ dagId, runId, taskId, mapIndex }) {
  const zone = useZone();
  const task = { dag_id: dagId, run_id: runId, task_id: taskId, map_index: mapIndex };
  const answer = useAnswer(`claimed${query(task)}`, EVERY);
  return h(
    Chakra.Box,
    { p: 2 },
    h(Answer, { answer }, (page) =>
      page.items.length
        ? h(Rows, { items: page.items, zone })
        : h(
            Nothing,
            { title: "No actions" },
            `This ${taskId ? "task" : "run"} has not claimed any, or they have been purged.`,
          ),
    ),
  );
}
