"""Workers that wait, each in a process of its own, and say when a job of theirs has started."""
