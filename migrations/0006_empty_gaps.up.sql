-- A log that was replaced while nothing was in doubt is on record too: its gap is empty.
alter table offset_gaps drop constraint offset_gaps_check;
alter table offset_gaps add constraint offset_gaps_check check (from_offset <= to_offset);
