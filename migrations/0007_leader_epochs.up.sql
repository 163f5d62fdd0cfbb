-- If a new leader does not have all records that were handled, the leader epochs of these records prove where its log
-- diverges from them.

-- The leader epochs of the handled records (KIP-320), as {"last_offset": 151, "first_offsets": {"3": 0, "5": 100}}: the
-- records from offset 0 on have the epoch 3, those from 100 on the epoch 5, up to the record 151. The column
-- is valid only if its last_offset is the last_offset of the row: an older program changes the row without this column.
-- Null: the epochs are not known.
alter table consumer_offsets add leader_epochs jsonb;
