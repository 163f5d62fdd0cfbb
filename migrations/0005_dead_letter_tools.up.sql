-- What an operator with nothing but psql needs to see, understand, correct and redrive the records that became no row.

-- One row for each try to make a letter a row. The first is the failure that made it a letter.
create table dead_letter_attempts (
    -- Goes with its letter: to delete letters that are done with, deleting them is enough.
    dead_letter_id  uuid         not null references dead_letters on delete cascade,
    -- Counted from 1, never anew.
    attempt         integer      not null check (attempt > 0),
    at              timestamptz  not null default now(),
    -- 'duplicate': the row was there already, with the same content; 'conflict': with other content.
    outcome         text         not null check (outcome in ('failed', 'stored', 'duplicate', 'conflict')),
    -- One sentence; never contains any of the record's content.
    detail          text,
    primary key (dead_letter_id, attempt)
);

comment on table dead_letter_attempts is 'Each try to make a dead letter a row, the first failure included';

insert into dead_letter_attempts (dead_letter_id, attempt, at, outcome, detail)
select id, 1, first_failed_at, 'failed', detail from dead_letters;

-- When a person corrected it last. Not null says that original_value holds the first bytes, also where it is null: the
-- first value of a tombstone is none.
alter table dead_letters add corrected_at timestamptz;
update dead_letters set corrected_at = now() where original_value is not null;

-- How a running service finds the letter that has been due for longest. The other questions are asked by people, now
-- and then: not worth an index that every letter has to be entered into.
create index dead_letters_waiting_idx on dead_letters (group_id, topic, next_attempt_at) where status = 'waiting';

-- Shows any bytes: JSON with line breaks and indents, other text as it is, and what is no text in the form of
-- encode(…, 'escape'). JSON is shown as it was sent, token by token: jsonb would drop repeated fields and write other
-- numbers, which may be the very fault that one is looking for.
create function dead_letters_text(bytes bytea) returns text
    language plpgsql stable strict
    set search_path = pg_catalog
    set standard_conforming_strings = on
as $$
declare
    shown text;
    indented text;
    deepest bigint;
begin
    -- Fails on a NUL and on all that is not UTF-8.
    begin
        shown := convert_from(bytes, 'UTF8');
    exception when others then
        return encode(bytes, 'escape');
    end;
    -- Indenting a megabyte takes seconds, and nobody reads it.
    if octet_length(bytes) > 100000 then
        return shown;
    end if;
    -- Fails on what is no JSON, and on JSON nested too deep for the server's stack.
    begin
        perform shown::json;
        with tokens as (
            select place, token, sum(case when token in ('{', '[') then 1 when token in ('}', ']') then -1 else 0 end)
                over (order by place) as depth
            from regexp_matches(shown, '"(?:[^"\\]|\\.)*"|[][{},:]|[^][{},:"\s]+', 'g')
                with ordinality as found (groups, place), unnest(groups) as token
        ),
        lines as (
            select
                place, token, depth,
                case
                    when before = ':' then ' '
                    when before in ('{', '[') and token in ('}', ']') then ''
                    when before in ('{', '[', ',') or token in ('}', ']')
                        then E'\n' || repeat('  ', (depth - case when token in ('{', '[') then 1 else 0 end)::integer)
                    else ''
                end as gap
            from (select *, lag(token) over (order by place) as before from tokens) as pairs
            where depth <= 100
        )
        select string_agg(coalesce(gap, '') || token, '' order by place), (select max(depth) from tokens)
        into indented, deepest
        from lines;
    exception when others then
        return shown;
    end;
    -- An indent that grows with each of many lines makes gigabytes of kilobytes.
    return case when deepest <= 100 then indented else shown end;
end
$$;

comment on function dead_letters_text is 'Any bytes as text: JSON indented, other text as it is, the rest escaped';

-- Where to begin: what went wrong, how often, and since when.
create view dead_letters_overview as
select
    reason, field, status, count(*) as letters, min(first_failed_at) as first_failed_at,
    max(last_failed_at) as last_failed_at
from dead_letters
group by reason, field, status
order by letters desc, reason, field, status;

comment on view dead_letters_overview is 'Dead letters by reason, field and status: how many, and since when';

-- The letters as a person reads them. Never fails, whatever they hold.
create view dead_letters_readable as
select
    letter.*,
    -- Any number may come as a timestamp; Postgres's own end before the year 294277.
    case
        when letter.record_timestamp_ms between -210866803200000 and 9224318015999999
            then (
                timestamp '1970-01-01' + make_interval(
                    days => (letter.record_timestamp_ms / 86400000)::integer,
                    secs => letter.record_timestamp_ms % 86400000 / 1000.0
                )
            ) at time zone 'UTC'
    end as record_timestamp,
    dead_letters_text(letter.key) as key_text,
    dead_letters_text(letter.value) as value_text
from dead_letters as letter;

comment on view dead_letters_readable is
    'Dead letters with record_timestamp, and with key_text and value_text: any bytes as readable text';

-- The three functions that change letters give back a row for each id, which says what was done. First they lock the
-- letters, in an order that lets no two callers deadlock: where the service is trying one of them right now, they wait
-- for what comes of it, and the next statement judges that.

create function dead_letters_requeue(ids uuid[]) returns table (id uuid, outcome text)
    language sql
begin atomic
    select from dead_letters as letter where letter.id = any (ids) order by letter.id for update;

    with requeued as (
        -- The note of one that was discarded stays with it.
        update dead_letters as letter
        set status = 'waiting', next_attempt_at = now(), resolved_at = null, resolved_by = null
        where letter.id = any (ids) and letter.status <> 'resolved'
        returning letter.id
    )
    select
        given.id,
        case
            when requeued.id is not null then 'requeued'
            when letter.id is not null then 'nothing done: it is resolved'
            else 'nothing done: there is no such letter'
        end
    from unnest(ids) with ordinality as given (id, place)
    left join requeued on requeued.id = given.id
    left join dead_letters as letter on letter.id = given.id
    order by given.place;
end;

comment on function dead_letters_requeue is
    'Has a running service try these letters again, within seconds: dead_letters_requeue(array[''ID'', …]::uuid[])';

create function dead_letters_discard(ids uuid[], note text) returns table (id uuid, outcome text)
    language sql
begin atomic
    select from dead_letters as letter where letter.id = any (ids) order by letter.id for update;

    with discarded as (
        update dead_letters as letter
        set
            status = 'discarded', next_attempt_at = null, resolved_at = now(), resolved_by = session_user,
            note = coalesce(dead_letters_discard.note, letter.note)
        where letter.id = any (ids) and letter.status <> 'resolved'
        returning letter.id
    )
    select
        given.id,
        case
            when discarded.id is not null then 'discarded'
            when letter.id is not null then 'nothing done: it is resolved'
            else 'nothing done: there is no such letter'
        end
    from unnest(ids) with ordinality as given (id, place)
    left join discarded on discarded.id = given.id
    left join dead_letters as letter on letter.id = given.id
    order by given.place;
end;

comment on function dead_letters_discard is
    'Settles letters that shall never be a row, and notes why: dead_letters_discard(array[''ID'', …]::uuid[], ''why'')';

create function dead_letters_correct(id uuid, value bytea) returns table (id uuid, outcome text)
    language sql
begin atomic
    select from dead_letters as letter where letter.id = dead_letters_correct.id for update;

    with corrected as (
        update dead_letters as letter
        set
            value = dead_letters_correct.value, corrected_at = now(),
            original_value = case when letter.corrected_at is null then letter.value else letter.original_value end
        where letter.id = dead_letters_correct.id and letter.status <> 'resolved'
        returning letter.id
    )
    select
        given.id,
        case
            when corrected.id is null and letter.id is null then 'nothing done: there is no such letter'
            when corrected.id is null then 'nothing done: it is resolved'
            when letter.status = 'waiting' then 'corrected: it is waiting for its next try'
            else 'corrected: dead_letters_requeue has it tried again'
        end
    from (values (dead_letters_correct.id)) as given (id)
    left join corrected on corrected.id = given.id
    left join dead_letters as letter on letter.id = given.id;
end;

comment on function dead_letters_correct is
    'Puts other bytes in place of a letter''s value and keeps the first: dead_letters_correct(''ID'', convert_to(''{…}'', ''UTF8''))';
