// Pausing a type, and letting it go on.
import { h, useState } from "./react.js";
import { post } from "./api.js";
import { Dialog } from "./dialog.js";
import { plural } from "./words.js";

export function PauseDialog({ view, close, done }) {
  const verb = view.paused_at ? "resume" : "pause";
  const waiting = plural(view.due + view.retrying, "action");
  const [tried, setTried] = useState({ busy: false, error: null });
  const confirm = () => {
    setTried({ busy: true, error: null });
    post(verb, { type: view.type }).then(done, (error) => setTried({ busy: false, error }));
  };
  return h(
    Dialog,
    {
      title: `${verb === "pause" ? "Pause" : "Resume"} ${view.type}?`,
      verb: verb === "pause" ? "Pause" : "Resume",
      ...tried,
      confirm,
      close,
    },
    verb === "pause"
      ? "It is not claimed until somebody resumes it. What is claimed now runs on."
      : `It is claimed again: ${waiting} of it may run now.`,
  );
}
