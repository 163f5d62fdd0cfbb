-- Empty gaps that are on record stay: the older version only writes others.
alter table offset_gaps drop constraint offset_gaps_check;
alter table offset_gaps add constraint offset_gaps_check check (from_offset < to_offset) not valid;
