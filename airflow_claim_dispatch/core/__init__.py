"""What an action is and what may happen to it: no database, no Airflow."""
