-- Gives each column the collation that it had before.

do $$
declare
    changed record;
begin
    for changed in select column_name, collation_was from booking_history_collations
    loop
        execute format(
            'alter table booking_history alter column %I type text collate %s', changed.column_name, changed.collation_was
        );
    end loop;
end
$$;

drop table booking_history_collations;
