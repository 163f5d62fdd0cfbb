-- Step 1 of 2: a copy of booking_history that is partitioned by the hash of booking_id. The service continues to work.
--
-- Run it as the owner of the tables: psql "$OWNER_URL" --set ON_ERROR_STOP=1 --file 1-copy.sql
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
        union select 'trigger ' || tgname from pg_trigger where tgrelid = 'booking_history'::regclass and not tgisinternal
        union select 'policy ' || polname from pg_policy where polrelid = 'booking_history'::regclass
        union select 'foreign key ' || conname
        from pg_constraint
        where contype = 'f' and 'booking_history'::regclass in (conrelid, confrelid)
        union select 'publication ' || pubname
        from pg_publication_rel
        join pg_publication on pg_publication.oid = prpubid
        where prrelid = 'booking_history'::regclass
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
