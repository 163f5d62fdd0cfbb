-- Prepares a table `booking_history` of the old service for 0001, which adopts it.
--
-- 0001 would rewrite the table once for each column whose type changes. This migration changes all types with one ALTER
-- TABLE, so 0001 finds nothing to change. A float that becomes numeric needs a rewrite: one for all columns. The other
-- changes (varchar to text, numeric(p, s) to numeric) do not rewrite the rows. `booking_history_before` stores what was
-- changed, for `down`.
--
-- It does nothing in a database that has no such table, or that has 0001 already.

do $$
declare
    changes text;
    missing record;
    indexes_before oid[];
begin
    if to_regclass('booking_history') is null then
        return;
    end if;
    if to_regclass('_sqlx_migrations') is not null then
        if exists (select from _sqlx_migrations where version = 1) then
            return;
        end if;
    end if;

    lock table booking_history in access exclusive mode;

    -- 0001 refuses any other table, and says why. Such a table is not changed here.
    if exists (
        select
        from (
            values
                ('id', '{integer,bigint}'::text[]),
                ('booking_id', '{text,character varying}'),
                ('user_id', '{text,character varying}'),
                ('hotel_id', '{text,character varying}'),
                ('promo_code', '{text,character varying}'),
                ('discount_percent', '{numeric,double precision,real}'),
                ('price', '{numeric,double precision,real}'),
                ('created_at', '{timestamp with time zone}')
        ) as wanted (name, types)
        full join (
            select
                attname::text as name,
                format_type(atttypid, null) as type,
                attnotnull and not (atthasdef or attidentity <> '') as required,
                atthasdef or attidentity <> '' as filled
            from pg_attribute
            where attrelid = 'booking_history'::regclass and attnum > 0 and not attisdropped
        ) as found using (name)
        where found.name is null
            or wanted.name is null and found.required
            or not found.type = any (wanted.types)
            or wanted.name = 'id' and not found.filled
    ) then
        return;
    end if;

    create table booking_history_before (
        -- 'column': changed from `type_was` and `default_was`; 'index': added.
        what text not null check (what in ('column', 'index')),
        name text not null,
        type_was text,
        default_was text,
        primary key (what, name)
    );
    insert into booking_history_before (what, name, type_was, default_was)
    select 'column', attname, format_type(atttypid, atttypmod), pg_get_expr(adbin, adrelid)
    from pg_attribute
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attrelid = 'booking_history'::regclass
        and attname in ('booking_id', 'user_id', 'hotel_id', 'promo_code', 'discount_percent', 'price')
        and format_type(atttypid, atttypmod) not in ('text', 'numeric');

    -- Only a float column has a USING clause, because the clause makes PostgreSQL rewrite the table. A float is
    -- converted through the shortest text that gives the same float again. So 89.99 stays 89.99, and `down` restores
    -- the same float.
    perform set_config('extra_float_digits', '1', true);
    select string_agg(
        concat_ws(
            ', ',
            case when default_was is not null then format('alter column %I drop default', name) end,
            case
                when type_was in ('double precision', 'real') then
                    format('alter column %1$I type numeric using %1$I::text::numeric', name)
                when type_was like 'numeric%' then format('alter column %I type numeric', name)
                else format('alter column %I type text', name)
            end,
            case when default_was is not null then format('alter column %I set default %s', name, default_was) end
        ),
        ', '
    )
    into changes
    from booking_history_before;
    if changes is not null then
        execute 'alter table booking_history ' || changes;
    end if;

    -- 0001 builds each missing index under a fixed name. If another relation has that name, the index is built here,
    -- under a name that PostgreSQL chooses.
    for missing in
        select name, is_unique
        from (
            values ('booking_id', true), ('user_id', false), ('hotel_id', false)
        ) as wanted (name, is_unique)
        where to_regclass(format('booking_history_%s_idx', name)) is not null
            and not exists (
                select
                from pg_index
                join pg_attribute on attrelid = indrelid and attnum = indkey[0]
                where indrelid = 'booking_history'::regclass
                    and attname = wanted.name
                    and indisvalid
                    and indpred is null
                    and (not wanted.is_unique or indisunique and indimmediate and indnkeyatts = 1)
            )
    loop
        indexes_before := array(select indexrelid from pg_index where indrelid = 'booking_history'::regclass);
        execute format(
            'create %s index on booking_history (%I)',
            case when missing.is_unique then 'unique' else '' end, missing.name
        );
        insert into booking_history_before (what, name)
        select 'index', relname
        from pg_index
        join pg_class on pg_class.oid = indexrelid
        where indrelid = 'booking_history'::regclass and indexrelid <> all (indexes_before);
    end loop;
end
$$;
