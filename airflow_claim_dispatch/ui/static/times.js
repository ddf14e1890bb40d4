// Times as Airflow shows them: in the time zone that its user has chosen there.
import { useEffect, useState } from "./react.js";

const KEY = "timezone";

function chosenZone() {
  try {
    const zone = JSON.parse(localStorage.getItem(KEY));
    new Intl.DateTimeFormat("en", { timeZone: zone ?? undefined });
    return zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
  } catch {
    return Intl.DateTimeFormat().resolvedOptions().timeZone;
  }
}

/** The time zone of Airflow's page; follows when the user chooses another. */
export function useZone() {
  const [zone, setZone] = useState(chosenZone);
  useEffect(() => {
    const follow = () => setZone(chosenZone());
    for (const event of ["storage", "local-storage"]) addEventListener(event, follow);
    return () => {
      for (const event of ["storage", "local-storage"]) removeEventListener(event, follow);
    };
  }, []);
  return zone;
}

/** `2026-03-01 09:00:00`, in `zone`. Sweden writes times as ISO 8601 does. */
export const written = (time, zone) =>
  new Intl.DateTimeFormat("sv-SE", {
    timeZone: zone,
    dateStyle: "short",
    timeStyle: "medium",
  }).format(new Date(time));

const UNITS = [
  [86400, "day"],
  [3600, "hour"],
  [60, "minute"],
  [1, "second"],
];

/** `in 5 minutes`, `3 hours ago`. */
export function relative(time, now = Date.now()) {
  const seconds = (new Date(time).getTime() - now) / 1000;
  const [size, unit] = UNITS.find(([each]) => Math.abs(seconds) >= each) ?? UNITS.at(-1);
  return new Intl.RelativeTimeFormat("en", { numeric: "always" }).format(
    Math.round(seconds / size),
    unit,
  );
}

/** `90` as `1 min 30 s`: two units at most, as the sentences of the log write it. */
export function span(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  let rest = Math.round(seconds);
  const parts = [];
  for (const [size, unit] of [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ]) {
    const number = Math.floor(rest / size);
    rest -= number * size;
    if (number) parts.push(`${number} ${unit}`);
    else if (parts.length) break;
  }
  return parts.slice(0, 2).join(" ");
}

/** The value of an `<input type="datetime-local">`, read in `zone`, as an ISO time in UTC. */
export function instant(local, zone) {
  const asUtc = new Date(`${local.length === 16 ? `${local}:00` : local}Z`).getTime();
  // Twice: the offset of the first guess may be that of the other side of a clock change.
  let guess = asUtc;
  for (let round = 0; round < 2; round += 1) guess = asUtc - offset(guess, zone);
  return new Date(guess).toISOString();
}

function offset(time, zone) {
  const shown = new Date(`${written(time, zone).replace(" ", "T")}Z`).getTime();
  return shown - Math.floor(time / 1000) * 1000;
}
