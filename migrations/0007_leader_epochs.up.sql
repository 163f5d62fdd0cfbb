-- Where a partition log parts from the records that were handled, after a leader was elected that does not have them all.

-- The leader epochs of the handled records (KIP-320), as {"records": {"3": [0, 99], "5": [100, 151]}, "last_digest": "..."}:
-- the records from 0 to 99 have the epoch 3, those from 100 to 151 the epoch 5. Valid only while the last of them is
-- last_offset of the row, and last_digest here is last_digest of the row in hexadecimal digits: another program may have
-- moved the row without this column. Null if the epochs are not known.
alter table consumer_offsets add leader_epochs jsonb;
