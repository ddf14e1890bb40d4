"""One module for each measure: what is compared, and what must be reached."""
