-- Step 2 of 2: copies what was stored, changed or deleted since step 1, and exchanges the names of the tables. The service
-- continues to work, except in the last transaction: its writers wait for it, and then continue with the new table. That
-- transaction reads only the rows that were written a short time before.
--
-- Run it as the owner of the tables: psql "$OWNER_URL" --set ON_ERROR_STOP=1 --file 2-swap.sql

-- What was written during the copy, and then what was written during this.
begin;
select booking_history_copy_changes();
commit;
begin;
select booking_history_copy_changes();
commit;

begin;
lock table booking_history in access exclusive mode;

-- In the transaction that exchanges the names, so that it does not depend on ON_ERROR_STOP.
do $$
begin
    if (
        select count(*)
        from pg_trigger
        where tgrelid = 'booking_history'::regclass and tgname like 'booking\_history\_changes\_%' and tgenabled = 'A'
    ) <> 5 then
        raise exception 'a trigger of step 1 is missing or disabled: the copy can lack rows'
            using hint = 'Begin again: the first lines of 1-copy.sql say how.';
    end if;
    -- Step 1 makes this index in the transaction that copies the rows.
    if not exists (
        select from pg_index where indrelid = 'booking_history_partitioned'::regclass and indisunique and indisvalid
    ) then
        raise exception 'step 1 has not copied the rows'
            using hint = 'Begin again: the first lines of 1-copy.sql say how.';
    end if;
end
$$;

select booking_history_copy_changes();

do $$
declare
    old_sequence constant text := pg_get_serial_sequence('booking_history', 'id');
    new_sequence constant text := pg_get_serial_sequence('booking_history_partitioned', 'id');
begin
    if new_sequence is not null then
        perform setval(new_sequence, nextval(old_sequence));
    elsif old_sequence is not null then
        -- A serial: both tables use one sequence. It must remain when the old table is dropped.
        execute format('alter sequence %s owned by booking_history_partitioned.id', old_sequence);
    end if;
end
$$;

drop function booking_history_list_changes() cascade;
drop function booking_history_copy_changes();
drop table booking_history_changes;
alter table booking_history rename to booking_history_plain;
alter table booking_history_partitioned rename to booking_history;

commit;
