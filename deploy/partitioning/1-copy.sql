-- Step 1 of 2: a copy of booking_history that is partitioned by the hash of booking_id. The service continues to work.
--
-- Triggers list each booking_id that is stored, changed or deleted from now on, so that step 2 needs to look only at these.
--
-- Run it as the owner of the tables: psql "$OWNER_URL" --set ON_ERROR_STOP=1 --file 1-copy.sql
-- To begin again after an error:
--     drop function if exists booking_history_list_changes, booking_history_copy_changes cascade;
--     drop table if exists booking_history_partitioned, booking_history_changes;
-- docs/scale-out.md explains both steps.

begin;

create table booking_history_partitioned (
    -- A unique index on `id` alone is not possible: PostgreSQL requires the partition key in it. The sequence gives each id once.
    like booking_history including defaults including identity including storage
) partition by hash (booking_id);

do $$
declare
    -- Powers of two can be split later without a copy of the other partitions.
    partitions constant integer := 16;
    why text;
    granted record;
begin
    -- These would stay at the old table when the new one takes its name.
    select string_agg(distinct what, ', ')
    into why
    from (
        select 'view ' || ev_class::regclass::text as what
        from pg_depend
        join pg_rewrite on pg_rewrite.oid = objid and classid = 'pg_rewrite'::regclass
        where refclassid = 'pg_class'::regclass and refobjid = 'booking_history'::regclass
        union select 'trigger ' || tgname
        from pg_trigger
        where tgrelid = 'booking_history'::regclass and not tgisinternal and tgname not like 'booking\_history\_changes\_%'
        union select 'policy ' || polname from pg_policy where polrelid = 'booking_history'::regclass
        union select 'foreign key ' || conname
        from pg_constraint
        where contype = 'f' and 'booking_history'::regclass in (conrelid, confrelid)
        union select 'publication ' || pubname
        from pg_publication_rel
        join pg_publication on pg_publication.oid = prpubid
        where prrelid = 'booking_history'::regclass
        -- It would also refuse to delete rows of the copy, which has no primary key.
        union select 'publication ' || pubname from pg_publication where puballtables
        -- Its changes fire no trigger of a statement.
        union select 'subscription' from pg_subscription_rel where srrelid = 'booking_history'::regclass
        union select 'privileges of the column ' || attname
        from pg_attribute
        where attrelid = 'booking_history'::regclass and attacl is not null
        union select 'generated column ' || attname
        from pg_attribute
        where attrelid = 'booking_history'::regclass and attgenerated <> ''
        union select 'owner ' || relowner::regrole || ' (run this script as this role)'
        from pg_class
        where pg_class.oid = 'booking_history'::regclass and pg_get_userbyid(relowner) <> current_user
    ) as objects;
    if why is not null then
        raise exception 'the new table would lack: %', why
            using hint = 'Drop these objects, run this script again, and create them again after step 2.';
    end if;
    if (select relnamespace <> current_schema()::regnamespace from pg_class where pg_class.oid = 'booking_history'::regclass) then
        raise exception 'booking_history is not in the schema %, where the new table would be', current_schema()
            using hint = 'Set the search_path so that it begins with the schema of the table.';
    end if;

    for part in 0 .. partitions - 1 loop
        execute format(
            'create table booking_history_%s partition of booking_history_partitioned '
            'for values with (modulus %s, remainder %s)',
            part, partitions, part
        );
    end loop;

    for granted in
        select
            case when grantee = 0 then 'public' else grantee::regrole::text end as role,
            string_agg(privilege_type, ', ') as privileges
        from pg_class, aclexplode(relacl)
        where pg_class.oid = 'booking_history'::regclass and grantee <> relowner
        group by grantee
    loop
        execute format('grant %s on booking_history_partitioned to %s', granted.privileges, granted.role);
    end loop;
end
$$;

create table booking_history_changes as
select booking_id from booking_history with no data;

-- Lists the rows of the transition table `changed`. With the rights of the owner: the service needs no privilege for the list.
create function booking_history_list_changes() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_op = 'TRUNCATE' then
        raise exception 'booking_history cannot be truncated while it is copied into a partitioned table';
    end if;
    execute format('insert into %I.booking_history_changes select booking_id from changed', tg_table_schema);
    return null;
end
$$;

-- Makes the listed rows of the copy equal to those of booking_history, and empties the list. The same transaction lists a
-- change and makes it, so a change that is not visible here yet is still on the list next time.
create function booking_history_copy_changes() returns void
language plpgsql set search_path from current as $$
begin
    create temporary table listed on commit drop as
    with taken as (delete from booking_history_changes returning booking_id)
    select distinct booking_id from taken;
    analyze listed;
    delete from booking_history_partitioned copied using listed where copied.booking_id = listed.booking_id;
    insert into booking_history_partitioned overriding system value
    select stored.* from booking_history stored join listed using (booking_id);
end
$$;

revoke all on function booking_history_list_changes(), booking_history_copy_changes() from public;

create trigger booking_history_changes_insert after insert on booking_history
referencing new table as changed for each statement execute function booking_history_list_changes();
create trigger booking_history_changes_update after update on booking_history
referencing new table as changed for each statement execute function booking_history_list_changes();
create trigger booking_history_changes_former after update on booking_history
referencing old table as changed for each statement execute function booking_history_list_changes();
create trigger booking_history_changes_delete after delete on booking_history
referencing old table as changed for each statement execute function booking_history_list_changes();
create trigger booking_history_changes_truncate before truncate on booking_history
for each statement execute function booking_history_list_changes();

-- Also in a session with `session_replication_role = replica`.
alter table booking_history
enable always trigger booking_history_changes_insert,
enable always trigger booking_history_changes_update,
enable always trigger booking_history_changes_former,
enable always trigger booking_history_changes_delete,
enable always trigger booking_history_changes_truncate;

commit;

-- The copy begins after the commit: a transaction that wrote without the triggers has ended, so the copy has its rows.
begin;

insert into booking_history_partitioned overriding system value table booking_history;

create unique index on booking_history_partitioned (booking_id);
create index on booking_history_partitioned (id);
create index on booking_history_partitioned (user_id);
create index on booking_history_partitioned (hotel_id);

-- After the copy: rows of the Python service can be outside of bounds that are `not valid`.
do $$
declare
    bounds record;
begin
    for bounds in
        select conname, pg_get_constraintdef(oid) as definition
        from pg_constraint
        where conrelid = 'booking_history'::regclass and contype = 'c'
    loop
        execute format('alter table booking_history_partitioned add constraint %I %s', bounds.conname, bounds.definition);
    end loop;
end
$$;

commit;

analyze booking_history_partitioned;
