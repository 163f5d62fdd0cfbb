-- One row for each partition and consumer group: how far the tables have got, and who may move on.
-- The row is updated in the same transaction as everything that the records below next_offset caused, so at every
-- instant the tables hold the effects of exactly the records in [counted_from, next_offset), less the gaps on record.
create table consumer_offsets (
    group_id          text    not null,
    topic             text    not null,
    partition         integer not null check (partition >= 0),
    -- Kafka's id of the topic that the positions belong to; null while it is not known.
    topic_id          text,
    -- Where reading goes on: the offset of the first record that is not handled yet. An operator may change it, live.
    next_offset       bigint  not null check (next_offset >= 0),
    -- The last record handled (next_offset - 1, unless holes follow it), and SHA-256 of its timestamp, key and value.
    last_offset       bigint,
    last_digest       bytea   check (octet_length(last_digest) = 32),
    -- The position at the last check that the log is still the one we know.
    checked_offset    bigint,
    -- Counts the claims. Every write of the service names the epoch that it claimed: an older owner matches nothing.
    epoch             bigint  not null default 0,
    -- Who claimed it last, for people.
    owner             text,
    updated_at        timestamptz not null default now(),
    -- A halted partition is not read until an operator lifts the halt.
    halted_at         timestamptz,
    halt_reason       text    check (halt_reason in ('retention_gap', 'log_truncated', 'log_replaced', 'log_corrupt',
                                                     'too_many_dead_letters', 'no_start_position')),
    letters_in_a_row  integer not null default 0,
    -- What became of the records in [counted_from, next_offset). The four add up to the records handled; offsets may
    -- have holes (transaction markers, aborted and compacted records), so they need not add up to the difference.
    counted_from      bigint  not null,
    stored            bigint  not null default 0,
    duplicates        bigint  not null default 0,
    ignored           bigint  not null default 0,
    dead_lettered     bigint  not null default 0,
    primary key (group_id, topic, partition),
    check ((halted_at is null) = (halt_reason is null))
) with (fillfactor = 50); -- room on the page, so that the frequent updates stay HOT and touch no index

comment on table consumer_offsets is 'How far each partition is kept, moved in the same transaction as its rows';
