-- Restores the old types and defaults of the columns of an adopted table, with one rewrite, and drops the indexes that
-- `up` added. All rows stay. If a value does not fit the old type of its column, nothing is changed, and the error
-- names the column.

do $$
declare
    changed record;
    fits boolean;
    changes text;
begin
    if to_regclass('booking_history_before') is null then
        return;
    end if;

    lock table booking_history in access exclusive mode;

    for changed in select name from booking_history_before where what = 'index'
    loop
        execute format('drop index if exists %I', changed.name);
    end loop;

    perform set_config('extra_float_digits', '1', true);
    for changed in
        select name, type_was, case when type_was like 'character varying%' then 'text' else 'numeric' end as type
        from booking_history_before
        where what = 'column'
    loop
        -- A cast cuts or rounds without an error.
        execute format(
            'select not exists (select from booking_history where %1$I is distinct from %1$I::%2$s::text::%3$s)',
            changed.name, changed.type_was, changed.type
        )
        into fits;
        if not fits then
            raise exception 'booking_history.% holds values that % can''t', changed.name, changed.type_was
                using hint = 'Move these rows elsewhere, and migrate down again.';
        end if;
    end loop;

    select string_agg(
        concat_ws(
            ', ',
            case when default_was is not null then format('alter column %I drop default', name) end,
            format('alter column %1$I type %2$s using %1$I::%2$s', name, type_was),
            case when default_was is not null then format('alter column %I set default %s', name, default_was) end
        ),
        ', '
    )
    into changes
    from booking_history_before
    where what = 'column';
    if changes is not null then
        execute 'alter table booking_history ' || changes;
    end if;

    drop table booking_history_before;
end
$$;
