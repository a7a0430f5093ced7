# What a host has set for its users must not reach our sessions, nor what the server has for its own.
export LC_ALL=C
umask 022
unset PGHOST PGHOSTADDR PGPORT PGUSER PGDATABASE PGPASSWORD PGPASSFILE PGSERVICE PGSERVICEFILE PGSSLMODE PGTZ \
    PGTARGETSESSIONATTRS PGCLIENTENCODING PGDATESTYLE PGDATA
# The user's name is PostgreSQL's to put in.
# shellcheck disable=SC2016
export PGOPTIONS='-c default_transaction_deferrable=off -c default_transaction_isolation=read\ committed -c default_transaction_read_only=off -c idle_in_transaction_session_timeout=0 -c local_preload_libraries= -c lock_timeout=0 -c log_statement=none -c search_path="$user",public -c session_preload_libraries= -c statement_timeout=0 -c synchronous_commit=local'
