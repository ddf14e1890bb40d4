"""Where actions live: tables, statements and migrations, on SQLAlchemy Core; no Airflow."""
