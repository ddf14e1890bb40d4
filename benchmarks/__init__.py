"""The library beside its peers, on one Postgres in one run: ``make bench`` writes RESULTS.md."""
