-- What the checks of the log need beside what is there.

-- The next_offset that the service wrote beside last_offset: between the two the log holds no record. Another next_offset
-- tells that somebody else has moved it; then nothing is known of what lies between.
alter table consumer_offsets add last_next_offset bigint;

-- A log that was replaced while nothing was in doubt is on record, too: its gap is empty.
alter table offset_gaps drop constraint offset_gaps_check;
alter table offset_gaps add constraint offset_gaps_check check (from_offset <= to_offset);
