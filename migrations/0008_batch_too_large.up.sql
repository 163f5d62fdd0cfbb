-- A partition is halted under a reason of its own if its next batch does not fit into receive.message.max.bytes. Such a batch
-- is not damaged: the partition continues at the same position. The gap is empty.
alter table consumer_offsets
    drop constraint consumer_offsets_halt_reason_check,
    add constraint consumer_offsets_halt_reason_check check (halt_reason in (
        'retention_gap', 'log_truncated', 'log_replaced', 'log_corrupt', 'batch_too_large', 'too_many_dead_letters',
        'no_start_position'));

alter table offset_gaps
    drop constraint offset_gaps_reason_check,
    add constraint offset_gaps_reason_check check (reason in (
        'retention_gap', 'log_truncated', 'log_replaced', 'log_corrupt', 'batch_too_large'));
