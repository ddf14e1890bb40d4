def airflow_commands(): return []
