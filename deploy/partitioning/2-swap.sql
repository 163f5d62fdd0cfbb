-- Step 2 of 2: copies the rows that were stored since step 1, and exchanges the names of the tables, in one transaction. The
-- writers of the service wait for it, and then continue with the new table.
--
-- Run it as the owner of the tables: psql "$OWNER_URL" --set ON_ERROR_STOP=1 --file 2-swap.sql

begin;

lock table booking_history in access exclusive mode;

insert into booking_history_partitioned overriding system value
select stored.*
from booking_history stored
where not exists (select from booking_history_partitioned copied where copied.booking_id = stored.booking_id);

do $$
declare
    old_sequence constant text := pg_get_serial_sequence('booking_history', 'id');
    new_sequence constant text := pg_get_serial_sequence('booking_history_partitioned', 'id');
begin
    if (select count(*) from booking_history) <> (select count(*) from booking_history_partitioned) then
        raise exception 'rows of booking_history were deleted since step 1'
            using hint = 'Drop the table booking_history_partitioned, and begin again with step 1.';
    end if;
    if new_sequence is not null then
        perform setval(new_sequence, nextval(old_sequence));
    elsif old_sequence is not null then
        -- A serial: both tables use one sequence. It must remain when the old table is dropped.
        execute format('alter sequence %s owned by booking_history_partitioned.id', old_sequence);
    end if;
end
$$;

alter table booking_history rename to booking_history_plain;
alter table booking_history_partitioned rename to booking_history;

commit;
