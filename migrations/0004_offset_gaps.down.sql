drop table offset_gaps;
