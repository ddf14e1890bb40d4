// Talks to the REST API beside this script, as the user who is logged in to Airflow.
import { useCallback, useEffect, useState } from "./react.js";

const API = new URL("../api/", import.meta.url);

/** What the API refused, in its own words. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const get = (path, signal) => call(path, { signal });

export const post = (path, body) =>
  call(path, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json" },
  });

async function call(path, options) {
  const response = await fetch(new URL(path, API), options).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The API server cannot be reached.");
  });
  if (response.ok) return response.json();
  throw new Refusal(response.status, await words(response));
}

async function words(response) {
  if (response.status === 401) return "Your session has ended: log in to Airflow again.";
  const answer = await response.json().catch(() => ({}));
  if (typeof answer.detail === "string") return answer.detail;
  return `The API server answered with ${response.status}.`;
}

/** `{type: "a b", state: ["due", "dead"]}` as `?type=a+b&state=due&state=dead`; nothing as "". */
export function query(parameters) {
  const pairs = Object.entries(parameters).flatMap(([name, value]) =>
    [value].flat().map((one) => [name, one]),
  );
  const given = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

/**
 * The answer of a GET, asked for again `every` milliseconds later while the page is looked at.
 *
 * An answer stays on the page while the next is fetched, also if that fails.
 */
export function useAnswer(path, every = 0) {
  const [known, setKnown] = useState({ path: null, data: null, error: null });
  const [round, setRound] = useState(0);
  const again = useCallback(() => setRound((number) => number + 1), []);

  useEffect(() => {
    if (path === null) return undefined;
    const leaving = new AbortController();
    get(path, leaving.signal).then(
      (data) => setKnown({ path, data, error: null }),
      (error) => {
        if (error.name === "AbortError") return;
        setKnown((before) => ({ path, data: before.path === path ? before.data : null, error }));
      },
    );
    return () => leaving.abort();
  }, [path, round]);

  // The next question waits for this answer: a slow server is not asked twice at once.
  useEffect(() => {
    if (!every || known.path !== path) return undefined;
    const look = () => {
      if (document.hidden) timer = setTimeout(look, every);
      else again();
    };
    let timer = setTimeout(look, every);
    return () => clearTimeout(timer);
  }, [known, path, every, again]);

  const isOurs = known.path === path;
  return { data: isOurs ? known.data : null, error: isOurs ? known.error : null, again };
}
