-- The key of a position has the collation "C". An upgrade of the C library can change the order of every other
-- collation. Then the index of the primary key could miss the row of a partition, and its records would be read again.
--
-- While a view uses one of the columns, PostgreSQL does not change them: they keep their collation.

do $$
begin
    alter table consumer_offsets
        alter column group_id type text collate "C",
        alter column topic type text collate "C";
exception
    when feature_not_supported then null;
end
$$;
