"""Who takes part: each publishes and consumes the same sample actions in its own way."""
