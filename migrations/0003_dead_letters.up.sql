-- Records that could not become a row, whole, written in the transaction that moves past them.
create table dead_letters (
    -- UUIDv7: in order of time.
    id                   uuid    primary key,
    group_id             text    not null,
    topic                text    not null,
    partition            integer not null,
    "offset"             bigint  not null,
    -- SHA-256 of timestamp, key and value: offsets repeat after a log was replaced.
    digest               bytea   not null check (octet_length(digest) = 32),
    -- Milliseconds since 1970 as they came, sensible or not; null when the record has none.
    record_timestamp_ms  bigint,
    timestamp_type       text    check (timestamp_type in ('create_time', 'log_append_time')),
    -- Null is a record without a key, or without a value (a tombstone); they are not the empty ones.
    key                  bytea,
    value                bytea,
    -- The first bytes of a letter that a person corrected.
    original_value       bytea,
    -- An array in order, names may repeat: {"name", "value"} where the value is text or null, {"name", "base64"} for a
    -- value that is no text, and "name_base64" in place of "name" for a name that is none.
    headers              jsonb   not null default '[]',
    reason               text    not null,
    -- The path of the field at fault, such as data.price.
    field                text,
    -- One sentence; never contains any of the record's content.
    detail               text    not null,
    -- What Postgres said, when it was Postgres that refused the record.
    sqlstate             text,
    constraint_name      text,
    status               text    not null check (status in ('waiting', 'parked', 'resolved', 'discarded')),
    attempts             integer not null default 1 check (attempts >= 0),
    next_attempt_at      timestamptz,
    first_failed_at      timestamptz not null default now(),
    last_failed_at       timestamptz not null default now(),
    resolved_at          timestamptz,
    resolved_by          text,
    note                 text,
    unique (group_id, topic, partition, "offset", digest)
);

comment on table dead_letters is 'Records that could not become a row, whole';
