-- Gives each column the collation that it had before. PostgreSQL refuses this while a view uses the column.

do $$
declare
    changed record;
    cause text;
begin
    for changed in select column_name, collation_was from booking_history_collations
    loop
        execute format(
            'alter table booking_history alter column %I type text collate %s', changed.column_name, changed.collation_was
        );
    end loop;
exception
    when feature_not_supported then
        get stacked diagnostics cause = pg_exception_detail;
        raise exception using
            errcode = 'feature_not_supported',
            message = format('%s: %s', sqlerrm, cause),
            hint = 'Drop the view, run this command again, and create the view again.';
end
$$;

drop table booking_history_collations;
