drop table consumer_offsets;
