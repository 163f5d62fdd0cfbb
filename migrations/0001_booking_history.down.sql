-- Gives back what was there before: nothing, or the old service's table as it was, with all rows.
--
-- A table that was made by `up` is dropped with all its rows. An adopted one keeps them, those written since included;
-- if one of them doesn't fit the old type of its column, nothing is changed and the column is named.

do $$
declare
    changed record;
    fits boolean;
begin
    if to_regclass('booking_history_adopted') is null then
        drop table booking_history;
        return;
    end if;

    lock table booking_history in access exclusive mode;
    alter table booking_history
        drop constraint if exists booking_history_booking_id_bounds,
        drop constraint if exists booking_history_user_id_bounds,
        drop constraint if exists booking_history_hotel_id_bounds,
        drop constraint if exists booking_history_promo_code_bounds,
        drop constraint if exists booking_history_discount_percent_bounds,
        drop constraint if exists booking_history_price_bounds,
        drop constraint if exists booking_history_created_at_bounds;

    for changed in select name from booking_history_adopted where what = 'index'
    loop
        execute format('drop index if exists %I', changed.name);
    end loop;

    perform set_config('extra_float_digits', '1', true);
    for changed in
        select
            name, type_was, default_was,
            case when type_was like 'character varying%' then 'text' else 'numeric' end as type
        from booking_history_adopted
        where what = 'column'
    loop
        -- A cast cuts or rounds without a word.
        execute format(
            'select not exists (select from booking_history where %1$I is distinct from %1$I::%2$s::text::%3$s)',
            changed.name, changed.type_was, changed.type
        )
        into fits;
        if not fits then
            raise exception 'booking_history.% holds values that % can''t', changed.name, changed.type_was
                using hint = 'Move these rows elsewhere, and migrate down again.';
        end if;
        execute format('alter table booking_history alter column %I drop default', changed.name);
        execute format(
            'alter table booking_history alter column %1$I type %2$s using %1$I::%2$s', changed.name, changed.type_was
        );
        if changed.default_was is not null then
            execute format(
                'alter table booking_history alter column %I set default %s', changed.name, changed.default_was
            );
        end if;
    end loop;

    drop table booking_history_adopted;
end
$$;
