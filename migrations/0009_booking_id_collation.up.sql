-- Ids are opaque: their order in a language has no meaning. With the collation "C" the indexes compare bytes.
--
-- This is safer: an upgrade of the C library can change the order of every other collation, and then a unique index can
-- miss a row that exists. It is also faster in a database whose collation is that of a language, such as en_US.utf8.
--
-- It rebuilds the indexes of the three columns, and no rows. Nothing can read or write the table during that time. A
-- column that PostgreSQL does not change (a view uses it, or the table is partitioned by it) keeps its collation.
-- `booking_history_collations` stores what was changed, for `down`.

lock table booking_history in access exclusive mode;

create table booking_history_collations (
    column_name   text primary key,
    collation_was text not null
);

do $$
declare
    id record;
begin
    for id in
        select attname as name, attcollation::regcollation::text as collation_was
        from pg_attribute
        where attrelid = 'booking_history'::regclass
            and attname in ('booking_id', 'user_id', 'hotel_id')
            and attcollation <> '"C"'::regcollation
        order by attnum
    loop
        begin
            execute format('alter table booking_history alter column %I type text collate "C"', id.name);
            insert into booking_history_collations values (id.name, id.collation_was);
        exception
            when feature_not_supported or invalid_object_definition or invalid_table_definition then null;
        end;
    end loop;
end
$$;
