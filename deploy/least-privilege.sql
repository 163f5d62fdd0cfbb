-- Gives a role what the service and its commands need, and no more: it can delete, truncate and alter nothing.
-- Run it with psql as the owner of the tables, after each `booking-history migrate up`. It can run again.
--
--     psql "$OWNER_URL" --set role=booking_service --file deploy/least-privilege.sql
--     psql "$OWNER_URL" --command '\password booking_service'
--
-- A role that does not exist is created without a password. This needs CREATEROLE.

\set ON_ERROR_STOP on
\if :{?role}
\else
  do $$ begin raise exception 'the name of the role is missing: add --set role=NAME'; end $$;
\endif

begin;

select format('create role %I login', :'role')
where not exists (select from pg_roles where rolname = :'role') \gexec

-- The service inserts and reads in all tables. It changes only positions, letters and gaps.
grant select, insert on booking_history, dead_letter_attempts to :"role";
grant select, insert, update on consumer_offsets, dead_letters, offset_gaps to :"role";
-- The commands compare the schema with the migrations of the program. The views are for people.
grant select on _sqlx_migrations, dead_letters_overview, dead_letters_readable to :"role";

select format('grant usage on schema %I to %I', nspname, :'role')
from pg_class
join pg_namespace on pg_namespace.oid = relnamespace
where pg_class.oid = 'booking_history'::regclass \gexec

-- The id of a table that the Python service created is a serial: its default needs the sequence.
select format('grant usage on sequence %s to %I', refobjid::regclass, :'role')
from pg_attrdef
join pg_depend on classid = 'pg_attrdef'::regclass and objid = pg_attrdef.oid
join pg_class on pg_class.oid = refobjid and relkind = 'S'
where adrelid = 'booking_history'::regclass \gexec

commit;
