-- Where a partition log parts from the records that were handled, after a leader was elected that does not have them all.

-- The leader epochs of the handled records (KIP-320), as {"last_offset": 151, "first_offsets": {"3": 0, "5": 100}}: the
-- records from offset 0 on have the epoch 3, those from 100 on the epoch 5, up to the record 151. Valid only while
-- last_offset here is last_offset of the row: another program may have moved the row without this column. Null if the
-- epochs are not known.
alter table consumer_offsets add leader_epochs jsonb;
