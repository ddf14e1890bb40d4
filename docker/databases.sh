# Runs once, when Postgres creates its volume: the application's database, in which the action log
# lives, beside Airflow's own. The image sources this file, so it need not be executable.

psql --set ON_ERROR_STOP=1 --set password="$APPLICATION_PASSWORD" \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --no-psqlrc --quiet <<'SQL'
CREATE ROLE application LOGIN PASSWORD :'password';
CREATE DATABASE application OWNER application;
SQL
