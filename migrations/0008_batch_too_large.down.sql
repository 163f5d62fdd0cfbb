-- The older program has one reason for every batch that it cannot read.
update consumer_offsets set halt_reason = 'log_corrupt' where halt_reason = 'batch_too_large';
update offset_gaps set reason = 'log_corrupt' where reason = 'batch_too_large';

alter table consumer_offsets
    drop constraint consumer_offsets_halt_reason_check,
    add constraint consumer_offsets_halt_reason_check check (halt_reason in (
        'retention_gap', 'log_truncated', 'log_replaced', 'log_corrupt', 'too_many_dead_letters', 'no_start_position'));

alter table offset_gaps
    drop constraint offset_gaps_reason_check,
    add constraint offset_gaps_reason_check check (reason in (
        'retention_gap', 'log_truncated', 'log_replaced', 'log_corrupt'));
