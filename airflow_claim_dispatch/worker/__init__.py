"""Runs what was claimed, and keeps the lease alive meanwhile; no Airflow."""
