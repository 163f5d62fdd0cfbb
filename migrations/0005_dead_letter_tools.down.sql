-- The letters stay as they are, corrected values and first bytes included. The history of tries is lost, and so is that
-- a corrected letter had no value at first.
drop function dead_letters_correct, dead_letters_discard, dead_letters_requeue;
drop view dead_letters_readable, dead_letters_overview;
drop function dead_letters_text;
drop index dead_letters_waiting_idx;
alter table dead_letters drop corrected_at;
drop table dead_letter_attempts;
