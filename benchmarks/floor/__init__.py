"""What Airflow itself takes from a due instant to a task: the same DAGs as ours, without a log."""
