"""A real Airflow, Postgres and mail server on this machine; the end-to-end tests use them too."""
