"""Alembic migrations of our tables, in the user's database, with a version table of their own."""
