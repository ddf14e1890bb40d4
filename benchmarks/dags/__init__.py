"""DAGs that the Airflow measure runs."""
