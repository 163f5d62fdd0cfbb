-- Offsets that the service moved, or stopped, past without having read their records.
create table offset_gaps (
    id               bigint  generated always as identity primary key,
    group_id         text    not null,
    topic            text    not null,
    partition        integer not null,
    -- [from_offset, to_offset): the bounds as they were when the gap was found.
    from_offset      bigint  not null,
    to_offset        bigint  not null,
    reason           text    not null check (reason in ('retention_gap', 'log_truncated', 'log_replaced', 'log_corrupt')),
    found_at         timestamptz not null default now(),
    acknowledged_at  timestamptz,
    acknowledged_by  text,
    check (from_offset < to_offset)
);

comment on table offset_gaps is 'Records that Kafka no longer had, or replaced, before they were read';
