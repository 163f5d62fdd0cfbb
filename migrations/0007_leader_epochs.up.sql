-- If a new leader does not have all records that were handled, the leader epochs of these records prove where its log
-- diverges from them.

-- The leader epochs of the handled records (KIP-320), as {"records": {"3": [0, 99], "5": [100, 151]}, "last_digest": "..."}:
-- the records from 0 to 99 have the epoch 3, those from 100 to 151 the epoch 5. The column is valid only while 151 is the
-- last_offset of the row and last_digest is its last_digest in hexadecimal digits: an older program changes the row without
-- this column. Null: the epochs are not known.
alter table consumer_offsets add leader_epochs jsonb;
