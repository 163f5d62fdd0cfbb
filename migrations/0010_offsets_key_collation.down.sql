-- While a view uses one of the columns, they keep the collation "C", which an older program can use, too.

do $$
begin
    alter table consumer_offsets
        alter column group_id type text collate "default",
        alter column topic type text collate "default";
exception
    when feature_not_supported then null;
end
$$;
