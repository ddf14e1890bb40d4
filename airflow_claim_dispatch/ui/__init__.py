"""The page inside Airflow, and the REST API that it and others use."""
